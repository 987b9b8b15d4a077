"""`opttune sync`: deliver the waiting data of searches to MLflow."""

import argparse
import json
from typing import Any

from opttune.cli.command import DONE, NO_TRIAL, add_command, add_tracking_uri


def add_sync(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "sync", "deliver waiting data of searches to MLflow", _run)
    command.add_argument(
        "study", metavar="STUDY", nargs="*", help="names or folders of searches (default: all in ./opttune_runs)"
    )
    command.add_argument("--storage", metavar="URL", help="Optuna storage (default: the journal in the folder)")
    add_tracking_uri(command)
    command.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="seconds to wait for each (default: 600)"
    )


def _run(options: argparse.Namespace) -> int:
    from opttune.storages.open_storage import quiet_optuna
    from opttune.study.sync import sync_studies

    with quiet_optuna():
        results = sync_studies(options.study, options.storage, options.tracking_uri, options.timeout)
    if options.json:
        print(json.dumps([result.to_dict() for result in results]))
    elif not results:
        print("nothing waits for delivery")
    for result in [] if options.json else results:
        print(f"{result.folder}: {result.delivered} entries delivered{f'; {result.problem}' if result.problem else ''}")
    return NO_TRIAL if any(result.waiting for result in results) else DONE
