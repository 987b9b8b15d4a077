"""Keep the output of other code from breaking a live display on the terminal.

It acts on file descriptors, because only they receive all output: loggers keep their first stream, and worker processes
and C libraries do not use `sys.stderr`.
"""

import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from rich.console import Console
from rich.text import Text

_STDERR = 2
_IDLE_SECONDS = 0.5
_BLOCK_BYTES = 1 << 16
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-HJKSTfhl]")
"""Escape sequences that move the cursor or erase, but not colours."""


def is_terminal() -> bool:
    """Return whether standard error is a terminal, and Python writes to it."""
    try:
        return sys.stderr.fileno() == _STDERR and os.isatty(_STDERR)
    except (AttributeError, OSError, ValueError):
        return False


@contextmanager
def captured() -> Iterator[Console]:
    """Show the output of this process and its children line by line, above a live display.

    Progress bars, which overwrite themselves, are left out.

    Yields:
        The terminal, only for the live display.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {place: os.dup(place) for place in (1, _STDERR) if os.isatty(place)}
    terminal = os.fdopen(os.dup(_STDERR), "w", encoding="utf-8", errors="replace")
    columns, lines = _size()
    console = Console(file=terminal, width=columns, height=lines)
    reading, writing = os.pipe()
    for place in kept:
        os.dup2(writing, place)
    os.close(writing)
    reader = Thread(target=_read, args=(reading, console), daemon=True)
    reader.start()
    try:
        yield console
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for place, original in kept.items():
            os.dup2(original, place)
            os.close(original)
        # a process that was started in between may still write later: then the thread ends with this process
        reader.join(2 * _IDLE_SECONDS)


def _size() -> tuple[int | None, int | None]:
    """Return columns and lines of the terminal, which rich cannot read from the standard streams."""
    if os.isatty(0) or "COLUMNS" in os.environ:
        return None, None
    size = os.get_terminal_size(_STDERR)
    # a terminal may not know its size
    return size.columns or None, size.lines or None


def _read(reading: int, console: Console) -> None:
    begun, is_open = b"", True
    while is_open:
        has_come = bool(select.select([reading], [], [], _IDLE_SECONDS)[0])
        data = os.read(reading, _BLOCK_BYTES) if has_come else b""
        is_open = bool(data) or not has_come
        *lines, begun = (begun + data).replace(b"\r\n", b"\n").split(b"\n")
        if not data and b"\r" not in begun:
            # the end, or a question without an end of line
            lines, begun = [*lines, begun], b""
        for line in filter(None, map(shown, lines)):
            # if a line cannot be shown, its writer must not wait for ever
            with suppress(Exception):
                console.print(Text.from_ansi(line), soft_wrap=True)
    os.close(reading)


def shown(line: bytes) -> str:
    r"""Return the visible part of a line; a progress bar, which carriage returns overwrite, becomes empty.

    Example:
        >>> shown(b"a line"), shown(b"\r 0%\r 50%\r100%"), shown(b"\r 0%\r    \ra line after a bar that was erased")
        ('a line', '', 'a line after a bar that was erased')
    """
    text = line.decode("utf-8", "replace")
    if _MOVES.search(text):
        return ""
    *before, last = text.split("\r")
    return last if not before or not before[-1].strip() else ""
