"""Common parts of all commands: shared options, exit codes, and the handling of Ctrl-C."""

import argparse
import re
import signal
from collections.abc import Callable
from difflib import get_close_matches
from types import FrameType
from typing import Any, NoReturn

DONE, NO_TRIAL, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Done; no trial finished with a value; bad input; stopped by Ctrl-C."""

Run = Callable[[argparse.Namespace], int]


class CommandParser(argparse.ArgumentParser):
    """A parser that refuses wrong arguments in one line, and names the nearest flag for each unknown one."""

    def error(self, message: str) -> NoReturn:
        """End the command with one line."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}. {self.prog} --help lists all options.\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; nothing may be unknown."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = re.findall(r"--[a-z][a-z-]*", self.format_help())
            self.error(f"unknown: {', '.join(_with_nearest(argument, flags) for argument in _named(unknown))}")
        return found, unknown


def _named(unknown: list[str]) -> list[str]:
    """Return the unknown flags without their values, and unknown arguments that belong to none of them."""
    before = ["", *unknown]
    return [
        argument.partition("=")[0] if argument.startswith("-") else argument
        for previous, argument in zip(before, unknown, strict=False)
        if argument.startswith("-") or not previous.startswith("-") or "=" in previous
    ]


def _with_nearest(argument: str, flags: list[str]) -> str:
    near = get_close_matches(argument, flags, n=1)
    return f"{argument} (did you mean {near[0]}?)" if near else argument


def add_command(commands: Any, name: str, help: str, run: Run) -> argparse.ArgumentParser:
    """Add a command with the common options.

    Args:
        commands: The result of `add_subparsers`.
        name: The command's name.
        help: Its effect, in one line without a full stop.
        run: Function that runs the command and returns the exit code.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False
    )
    command.add_argument("--json", action="store_true", help="print JSON on standard output")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=run)
    return command


def add_study(command: argparse.ArgumentParser) -> None:
    """Add STUDY and `--storage`."""
    command.add_argument(
        "study", metavar="STUDY", help="name of a study (in --storage or ./opttune_runs), or the folder of its search"
    )
    command.add_argument("--storage", metavar="URL", help="Optuna storage (default: the journal in the folder)")


def check_study(options: argparse.Namespace) -> None:
    """Refuse an unknown STUDY before slow libraries are imported; what is in a storage is known only to them.

    Raises:
        InputError: There is no such study.
    """
    from opttune.storages.study_folder import study_folder

    if options.storage is None:
        study_folder(options.study)


def add_tracking_uri(command: argparse.ArgumentParser) -> None:
    """Add `--tracking-uri`."""
    command.add_argument("--tracking-uri", metavar="URI", help="MLflow (default: the address of the search)")


_received: list[int] = []


def catch_interrupts() -> None:
    """Make Ctrl-C, and a scheduler's SIGTERM, end the command even during the import of libraries.

    Python ignores an exception in a finalizer, and some libraries ignore one during their import.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt again if an earlier one was ignored."""
    if _received:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt
