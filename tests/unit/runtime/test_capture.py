"""What other code writes to a terminal, kept off a live display."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opttune.runtime.capture import shown
from tests.support.searches import command_env

PROGRAM = """
import logging, os, subprocess, sys
handler = logging.StreamHandler()
from opttune.runtime.capture import captured
with captured() as terminal:
    terminal.print("of the display")
    print("of print")
    os.write(2, b"of a library\\n\\r 0%\\r100%\\n")
    handler.emit(logging.makeLogRecord({"msg": "of a logger"}))
    subprocess.run([sys.executable, "-c", "print('of a child')"])
    sys.stderr.write("a question? ")
print("afterwards")
"""


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (b"plain", "plain"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (b"\r 0%\r 50%\r100%", ""),
        (b"\r 0%\r     \rafter a bar that was erased", "after a bar that was erased"),
        (b"\x1b[A\x1b[2K 50%", ""),
        ("\u00e4".encode("latin-1"), "\ufffd"),
    ],
)
def test_lines_are_shown_and_bars_are_not(line: bytes, left: str) -> None:
    assert shown(line) == left


def read_all(place: int) -> str:
    read = b""
    while True:
        try:
            data = os.read(place, 4096)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            os.close(place)
            return read.decode()
        read += data


def test_all_that_is_written_appears_once_and_in_whole_lines(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=command_env(TERM="xterm"),
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = read_all(ours)
        assert process.wait() == 0, said
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in said.splitlines()]

    assert sorted(filter(None, lines)) == sorted([
        "of the display", "of print", "of a library", "of a logger", "of a child", "a question?", "afterwards",
    ])  # fmt: skip
    assert lines[-1] == "afterwards"
