"""The command `opttune`: arguments in, exit code out, with one file for each subcommand.

Each subcommand imports its libraries when it runs, so `opttune --help` is fast.
"""

from opttune.cli.command import BAD_INPUT, DONE, INTERRUPTED, NO_TRIAL
from opttune.cli.parser import main, run

__all__ = ["BAD_INPUT", "DONE", "INTERRUPTED", "NO_TRIAL", "main", "run"]
