"""`opttune confirm`: train the best recipes on new seeds and compare them."""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from typing import Any

from opttune.cli.command import DONE, add_command, add_study, add_tracking_uri, check_study


def add_confirm(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "confirm",
        "train the best recipes, the baseline (your own optimizer) and AdamW's default on new seeds and compare them",
        _run,
    )
    add_study(command)
    add_tracking_uri(command)
    add = command.add_argument
    add("--top", type=int, default=3, metavar="K", help="number of best recipes (default: 3)")
    add("--seeds", type=int, default=5, metavar="S", help="number of seeds, following the search's (default: 5)")
    add("--model", metavar="MODEL", help="as for search; needed if the search was called from Python")
    add("--data", metavar="DATA", help="as for search; needed in the same case")
    add("--workers", type=int, default=1, metavar="W", help="trainings at a time (default: 1)")
    add("--engine", metavar="NAME", help="where trainings run: inline, local or ray (default: inline for one worker)")
    add("--ray-address", metavar="HOST:PORT", help="a running Ray cluster (default: RAY_ADDRESS, else one here)")
    add("--trainer", nargs="+", action="extend", metavar="key=value", help="further arguments of the Trainer")


def _run(options: argparse.Namespace) -> int:
    check_study(options)
    from opttune.cli.search import parse_trainer
    from opttune.cli.terminal import print_verdict
    from opttune.confirming.confirm import confirm
    from opttune.references import load_reference

    trainer = None if options.trainer is None else parse_trainer(options.trainer)
    # with --json, standard output has only the JSON: prints of the user's code go to standard error
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        verdict = confirm(
            options.study,
            None if options.model is None else load_reference(options.model, "MODEL"),
            None if options.data is None else load_reference(options.data, "DATA"),
            top=options.top,
            seeds=options.seeds,
            storage=options.storage,
            tracking_uri=options.tracking_uri,
            trainer=trainer,
            workers=options.workers,
            engine=options.engine,
            ray_address=options.ray_address,
        )
        print_verdict(verdict)
    if options.json:
        print(json.dumps(verdict.to_dict(), allow_nan=False))
    return DONE
