"""The command `opttune`: arguments in, exit code out; a file for each of its commands.

What a command needs is imported when it runs, so that `opttune --help` is quick.
"""

from opttune.cli.command import BAD_INPUT, DONE, INTERRUPTED, NO_TRIAL
from opttune.cli.parser import main, run

__all__ = ["BAD_INPUT", "DONE", "INTERRUPTED", "NO_TRIAL", "main", "run"]
