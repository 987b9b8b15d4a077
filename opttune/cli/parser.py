"""The parser of all commands, and the end of the process."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from opttune.cli.catalog import add_catalog
from opttune.cli.command import BAD_INPUT, INTERRUPTED, CommandParser, catch_interrupts, raise_if_interrupted
from opttune.cli.confirm import add_confirm
from opttune.cli.export import add_export
from opttune.cli.project import split_arguments
from opttune.cli.report import add_report
from opttune.cli.search import add_search
from opttune.cli.sync import add_sync
from opttune.cli.transfer import add_transfer
from opttune.errors import OpttuneError
from opttune.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The arguments after `opttune`; None for those of the process.

    Returns:
        The exit code.
    """
    own, project = split_arguments(sys.argv[1:] if arguments is None else arguments)
    options = _make_parser().parse_args(own)
    if project:
        options.project_arguments = project
    try:
        code = _run(options)
    except OpttuneError as err:
        if options.debug:
            raise
        print(f"opttune: {err}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("opttune: stopped. Finished work is kept; the same command continues from here.", file=sys.stderr)
        return INTERRUPTED
    return code


def _run(options: argparse.Namespace) -> int:
    try:
        code: int = options.run(options)
    except Exception:
        # a library that ignores Ctrl-C during its import is imported in part, and the error is a consequence
        raise_if_interrupted()
        raise
    return code


def run() -> NoReturn:
    """Run the command and end the process with its exit code."""
    catch_interrupts()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if code == INTERRUPTED:
        # if Ctrl-C arrived while a C library ran Python code, the interpreter would still exit by the signal
        os._exit(code)
    sys.exit(code)


def _make_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="opttune", description="Tune the optimizer and the learning-rate schedule of any Lightning module."
    )
    parser.add_argument("--version", action="version", version=f"opttune {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_search, add_report, add_confirm, add_export, add_transfer, add_sync, add_catalog):
        add(commands)
    return parser
