"""What all commands share: how one is added to the parser, and the exit codes."""

import argparse
from collections.abc import Callable
from typing import Any

DONE, NO_TRIAL, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Done; no trial came through; bad input; stopped by Ctrl-C."""

Run = Callable[[argparse.Namespace], int]


def add_command(commands: Any, name: str, help: str, run: Run) -> argparse.ArgumentParser:
    """Add a command, with the options that every command has.

    Args:
        commands: What `add_subparsers` gave.
        name: Its name.
        help: What it does, in one line without a full stop.
        run: Does it, and returns the exit code.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False
    )
    command.add_argument("--json", action="store_true", help="print JSON on standard output")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=run)
    return command
