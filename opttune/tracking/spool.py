"""`Spool`: a queue on disk of operations that wait for MLflow.

    <folder>/<time>-<process>.jsonl        the file of one writer, one line per operation
    <folder>/<time>-<process>.jsonl.lock   held while that writer lives

Everything goes through the file, so memory stays small however long MLflow is unavailable. The next writer of the
folder delivers the operations of a killed process. Deliveries are not recorded line by line: after a kill some
operations are delivered again, which does no harm (see `delivery.py`).
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from shutil import copyfileobj

from filelock import FileLock, Timeout

from opttune.shared_folder import files_in
from opttune.tracking.operations import Kind, Operation


class Spool:
    """A queue of operations that outlives its process. One thread may append while another one reads.

    Args:
        folder: Folder of the files; files of dead writers come first. None keeps everything in memory.
        most_in_memory: Operations kept in memory if the folder cannot be written; beyond that, metrics are dropped.

    Attributes:
        appended: Operations added so far, including those found in the folder.
        delivered: Operations delivered or dropped.
        lost: Operations that could not be kept.
        reads_left: Whether the last `peek` returned operations of an earlier writer.
    """

    def __init__(self, folder: Path | None, most_in_memory: int = 100_000) -> None:
        self._guard = threading.Lock()
        self._folder = folder
        self._most_in_memory = most_in_memory
        self._memory: deque[Operation] = deque()
        self._left = deque(_left_by_others(folder)) if folder else deque[_File]()
        self._own: _File | None = None
        self._reading: _File | None = None
        self.appended = sum(file.count for file in self._left)
        self.delivered = 0
        self.lost = 0
        self.reads_left = False

    @property
    def waiting(self) -> int:
        """Operations that are not delivered yet."""
        return self.appended - self.delivered

    def append(self, operations: Iterable[Operation]) -> None:
        """Add operations at the end."""
        operations = list(operations)
        with self._guard:
            # once some are in memory, later ones queue behind them to keep the order
            if not self._memory and self._written(operations):
                self.appended += len(operations)
                return
            for operation in operations:
                if operation.kind is Kind.METRICS and len(self._memory) >= self._most_in_memory:
                    self.lost += 1
                else:
                    self._memory.append(operation)
                    self.appended += 1

    def peek(self, most: int) -> list[Operation]:
        """Return at most the first `most` operations and leave them in the queue."""
        with self._guard:
            while self._left and self._left[0].is_read:
                self._left.popleft().remove()
            self.reads_left = bool(self._left)
            file = self._left[0] if self._left else self._own
            self._reading = file if file and not file.is_read else None
            if self._reading:
                try:
                    return self._reading.peek(most)
                except OSError:
                    self._drop(self._reading)
            return list(islice(self._memory, most))

    def advance(self, count: int) -> None:
        """Remove the first `count` operations: those that the last `peek` returned."""
        with self._guard:
            if self._reading:
                self._reading.advance(count)
            else:
                for _ in range(count):
                    self._memory.popleft()
            self.delivered += count

    def close(self) -> None:
        """Leave waiting operations for the next writer of the folder; remove files with none."""
        with self._guard:
            if self._memory and self._written(list(self._memory)):
                self._memory.clear()
            for file in (*self._left, self._own):
                if file and file.is_read:
                    file.remove()
                elif file:
                    file.leave()
            self._left.clear()
            self._own = None

    def _drop(self, file: "_File") -> None:
        """Give up a file that was deleted in the meantime."""
        self.lost += file.count
        self.delivered += file.count
        if file is self._own:
            self._own = None
        else:
            self._left.popleft()
        self._reading = None
        file.remove()

    def _written(self, operations: list[Operation]) -> bool:
        if self._folder is None:
            return False
        try:
            if self._own is None:
                self._own = _File.make(self._folder)
            self._own.write(b"".join(operation.to_line() for operation in operations), len(operations))
        except OSError:
            return False
        return True


class _File:
    """One file of the spool, locked by this process; `count` of its lines are not delivered yet."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._lock = lock
        # unbuffered: a write that failed on a full disk must not stay in a buffer and be written later
        self._stream = path.open("r+b", buffering=0)
        self._size = path.stat().st_size
        self._done = self._next = 0
        self.count = sum(1 for _ in self._lines())

    @classmethod
    def make(cls, folder: Path) -> "_File":
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.time_ns()}-{os.getpid()}.jsonl"
        lock = _lock_of(path)
        lock.acquire(timeout=0)
        path.touch(exist_ok=False)
        return cls(path, lock)

    @property
    def is_read(self) -> bool:
        return self._done >= self._size

    def write(self, lines: bytes, count: int) -> None:
        if self.is_read:
            self._stream.truncate(0)
            self._size = self._done = 0
        self._stream.seek(self._size)
        try:
            if self._stream.write(lines) != len(lines):
                raise OSError("the disk is full")
        except OSError:
            with suppress(OSError):
                self._stream.truncate(self._size)
            raise
        self._size += len(lines)
        self.count += count

    def peek(self, most: int) -> list[Operation]:
        lines = list(islice(self._lines(), most))
        self._next = self._done + sum(len(line) for line in lines)
        return [Operation.from_line(line) or _NOTHING for line in lines]

    def advance(self, count: int) -> None:
        self._done = self._next
        self.count -= count

    def remove(self) -> None:
        self._stream.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._lock.release()
        with suppress(OSError):
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def leave(self) -> None:
        """Close the file after removing the delivered lines."""
        with suppress(OSError):
            rest = self.path.with_suffix(".rest")
            with self.path.open("rb") as old, rest.open("wb") as new:
                old.seek(self._done)
                copyfileobj(old, new)
            rest.replace(self.path)
        self._stream.close()
        self._lock.release()

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            stream.seek(self._done)
            while stream.tell() < self._size and (line := stream.readline()):
                yield line


_NOTHING = Operation(Kind.METRICS, "", [])
"""Replaces a damaged line, so that counts stay right."""


def count_waiting(folder: Path) -> int:
    """Return the number of operations in a folder, including those of a live writer."""
    return sum(_lines_of(path) for path in _paths_in(folder))


def _paths_in(folder: Path) -> list[Path]:
    return [Path(file) for file in files_in(folder) if file.name.endswith(".jsonl")]


def _lines_of(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        # its writer has delivered it since
        return 0


def _left_by_others(folder: Path) -> Iterator[_File]:
    for path in _paths_in(folder):
        lock = _lock_of(path)
        try:
            lock.acquire(timeout=0)
            yield _File(path, lock)
        except (OSError, Timeout):
            # its writer lives, or has just ended and removed it
            if lock.is_locked:
                lock.release()
                if not path.exists():
                    # acquiring the lock has created its file again
                    Path(lock.lock_file).unlink(missing_ok=True)


def _lock_of(path: Path) -> FileLock:
    return FileLock(f"{path}.lock", thread_local=False)
