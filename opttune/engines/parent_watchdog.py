"""A process that ends, with all that it has started, when whoever started it is gone, however that ended."""

import os
import signal
import sys
import threading

PARENT_PIPE = "OPTTUNE_PARENT_PIPE"
"""Environment variable that says that standard input is held open by whoever started the process."""


def watch_parent() -> None:
    """End this process and its group as soon as standard input ends, where that is a leash; else do nothing."""
    if os.environ.get(PARENT_PIPE):
        threading.Thread(target=_wait, args=(sys.stdin.fileno(),), name="opttune-leash", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
