"""Studies in a journal file that survives kills: no torn line, no lock of a dead process, several lines per write."""

import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

_LONGEST_WRITE_SECONDS = 1.0
"""A process holds a journal's lock for one write of milliseconds."""
_BLOCK_BYTES = 4096


def open_journal(path: Path) -> "JournalFile":
    """Open a journal file, and create it if it is missing."""
    return JournalFile(path, _MendingLock(path))


class JournalFile(JournalStorage):
    """Studies in a journal file.

    Args:
        path: The file.
        lock: Keeps others from writing at the same time.
    """

    def __init__(self, path: Path, lock: JournalFileSymlinkLock) -> None:
        self._lines = _Lines(path, lock)
        # a torn line could not be read if another line already followed it
        lock.acquire()
        lock.release()
        super().__init__(self._lines)

    @property
    def lines_read(self) -> int:
        """The number of lines read; they contain everything that this object knows."""
        return self._lines.lines_read

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Flush the writes inside the context to disk at its end; other processes on this machine see them at once."""
        self._lines.waits_for_disk = False
        try:
            yield
        finally:
            self._lines.waits_for_disk = True
            self._lines.bring_to_disk()


class _Lines(JournalFileBackend):
    """The lines of a journal file, of which several may be flushed to disk at a time.

    Attributes:
        waits_for_disk: Whether each line is flushed to disk before the next action.
        lines_read: The number of lines read.
    """

    def __init__(self, path: Path, lock: JournalFileSymlinkLock) -> None:
        super().__init__(str(path), lock)
        self._path, self._guard = path, lock
        self.waits_for_disk = True
        self.lines_read = 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read the lines from a number on."""
        for log in super().read_logs(log_number_from):
            self.lines_read += 1
            yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines at the end."""
        if self.waits_for_disk:
            super().append_logs(logs)
            return
        self._guard.acquire()
        try:
            with self._path.open("ab") as file:
                file.write("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())
        finally:
            self._guard.release()

    def bring_to_disk(self) -> None:
        """Wait until all writes are on disk."""
        with self._path.open("ab") as file:
            os.fsync(file.fileno())


class _MendingLock(JournalFileSymlinkLock):
    """A journal's lock that removes a torn line of a killed process or a full disk.

    A later line after it would make the journal unreadable for ever.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def acquire(self) -> bool:
        is_held = super().acquire()
        cut_torn_line(self._path)
        return is_held

    def release(self) -> None:
        try:
            super().release()
        except FileNotFoundError as err:
            # if Ctrl-C arrives at its end, Optuna removes the lock a second time
            if isinstance(err.__context__, KeyboardInterrupt):
                raise err.__context__ from None
            raise


def cut_torn_line(path: Path) -> None:
    """Shorten a journal to its last whole line, if necessary. The caller must hold its lock."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end
        while whole and not _ends_a_line(file, whole):
            whole = _last_newline(file, whole - 1)
        if whole < end:
            file.truncate(whole)


def _ends_a_line(file: BinaryIO, end: int) -> bool:
    """Return whether a whole line of JSON ends there."""
    start = _last_newline(file, end - 1)
    file.seek(start)
    line = file.read(end - start)
    if not line.endswith(b"\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _last_newline(file: BinaryIO, end: int) -> int:
    """Return the position after the last newline before `end`; 0 if there is none."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def remove_stale_lock(lock: Path) -> None:
    """Remove a killed search's lock of a journal; Optuna itself would wait half a minute for it."""
    with suppress(OSError):
        taken = lock.lstat().st_mtime
        if time.time() - taken < _LONGEST_WRITE_SECONDS:
            time.sleep(_LONGEST_WRITE_SECONDS)
        if lock.lstat().st_mtime == taken:
            lock.unlink()
