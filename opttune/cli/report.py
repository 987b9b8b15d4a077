"""`opttune report`: write and print the report of a search."""

import argparse
import json
from typing import Any

from opttune.cli.command import DONE, NO_TRIAL, add_command, add_study, add_tracking_uri, check_study


def add_report(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "report", "write report.html and images of a search, and print a summary", _run)
    add_study(command)
    add_tracking_uri(command)
    command.add_argument("--out", metavar="PATH", help="folder or .html file (default: the folder of the search)")


def _run(options: argparse.Namespace) -> int:
    check_study(options)
    # torch, mlflow and vl-convert come with these imports
    from opttune.cli.terminal import print_report, report_json
    from opttune.report import write_report
    from opttune.storages.open_storage import quiet_optuna
    from opttune.study.frozen_study import load_study

    with quiet_optuna():
        study = load_study(options.study, options.storage)
        written = write_report(study, options.out or study.config.out_dir, options.tracking_uri)
    if options.json:
        print(json.dumps(report_json(study, written), allow_nan=False))
    else:
        print_report(study, written)
    return DONE if study.best is not None else NO_TRIAL
