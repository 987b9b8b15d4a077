"""Where studies are kept: a journal file, or any database that Optuna takes."""

import json
import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import SQLAlchemyError

from opttune.engines.engine import ENGINE_FOLDER
from opttune.errors import InputError, OpttuneError, StudyError
from opttune.shared_folder import files_in
from opttune.tracking.address import safe_uri
from opttune.training.errors import raise_if_disk_is_full

_LONGEST_WRITE_SECONDS = 1.0
"""A journal's lock is held for one write, of milliseconds."""
_JOURNAL = "journal://"
_BLOCK_BYTES = 4096
_SQLITE_WAIT_SECONDS = 60
"""How long one process waits for another's write."""
_TABLES_SECONDS = 3.0
"""In so long the tables of a new database are made."""


def open_storage(url: str | None, out_dir: Path) -> BaseStorage:
    """Open where studies are kept.

    Args:
        url: Any database URL that Optuna takes, or `journal:///path` for a journal file that several processes share;
            None for the journal file `study.journal` in `out_dir`.
        out_dir: The folder of the search, which this process holds (`sole_search`) where no URL is given.

    Raises:
        InputError: The storage cannot be opened.
    """
    try:
        if url is None:
            _remove_lock_of_the_dead(out_dir / "study.journal.lock")
            return _open_journal(out_dir / "study.journal")
        if url.startswith(_JOURNAL):
            return _open_journal(Path(url.removeprefix(_JOURNAL)))
        return _open_database(url)
    except Exception as err:  # drivers of databases raise what they like
        problem = safe_uri(f"the storage {url or out_dir} cannot be opened: {type(err).__name__}: {err}")
        raise InputError(problem) from None


def _open_database(url: str) -> BaseStorage:
    # a server may have closed a connection that lay idle during a long training
    wait: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_WAIT_SECONDS}}
    settings: dict[str, Any] = wait if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return RDBStorage(url, engine_kwargs=settings)
    except SQLAlchemyError:
        # of two processes that make the tables of a new database, one comes too late
        time.sleep(_TABLES_SECONDS)
        return RDBStorage(url, engine_kwargs=settings)


def _open_journal(path: Path) -> JournalStorage:
    lock = _MendingLock(path)
    return JournalFile(path, lock)


class JournalFile(JournalStorage):
    """Studies in a journal file.

    Args:
        path: The file.
        lock: Keeps others from writing at the same time.
    """

    def __init__(self, path: Path, lock: JournalFileSymlinkLock) -> None:
        self._lines = _Lines(path, lock)
        # a torn line that a second one follows already could not be read
        lock.acquire()
        lock.release()
        super().__init__(self._lines)

    @property
    def lines_read(self) -> int:
        """How many lines have been read, with which all that this object knows was written."""
        return self._lines.lines_read

    @contextmanager
    def together(self) -> Iterator[None]:
        """Bring what is written meanwhile to disk at the end; other processes of this machine see it at once."""
        self._lines.waits_for_disk = False
        try:
            yield
        finally:
            self._lines.waits_for_disk = True
            self._lines.bring_to_disk()


class _Lines(JournalFileBackend):
    """The lines of a journal file, which may be brought to disk several at a time.

    Attributes:
        waits_for_disk: Whether each line is brought to disk before the next thing is done.
        lines_read: How many have been read.
    """

    def __init__(self, path: Path, lock: JournalFileSymlinkLock) -> None:
        super().__init__(str(path), lock)
        self._path, self._guard = path, lock
        self.waits_for_disk = True
        self.lines_read = 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read the lines from one on."""
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
        """Wait until all that was written is on disk."""
        with self._path.open("ab") as file:
            os.fsync(file.fileno())


class _MendingLock(JournalFileSymlinkLock):
    """A journal's lock that cuts off what a killed process, or a full disk, has left of a line.

    A later line behind it would make the journal unreadable for ever.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def acquire(self) -> bool:
        is_held = super().acquire()
        cut_torn_line(self._path)
        return is_held


def cut_torn_line(path: Path) -> None:
    """Shorten a journal to its last whole line; harmless where it ends with one. Its lock must be held."""
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
    """Return the place behind the last newline before `end`; 0 where there is none."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _remove_lock_of_the_dead(lock: Path) -> None:
    """Remove a journal's lock that a killed search left; Optuna itself would wait half a minute for it."""
    with suppress(OSError):
        taken = lock.lstat().st_mtime
        if time.time() - taken < _LONGEST_WRITE_SECONDS:
            time.sleep(_LONGEST_WRITE_SECONDS)
        if lock.lstat().st_mtime == taken:
            lock.unlink()


@contextmanager
def clear_errors() -> Iterator[None]:
    """Say what to do where the storage, or the disk under it, fails in the middle of a search.

    Raises:
        DiskFullError: Nothing more can be written.
        StudyError: The storage cannot be reached any more.
    """
    try:
        yield
    except OpttuneError:
        raise
    except (OSError, optuna.exceptions.StorageInternalError, SQLAlchemyError) as err:
        raise_if_disk_is_full(err)
        if isinstance(err, OSError):
            raise
        problem = safe_uri(" ".join(f"{type(err.__cause__ or err).__name__}: {err.__cause__ or err}".split())[:300])
        raise StudyError(
            f"the storage of the study fails ({problem}). Nothing finished is lost: once it is there again, the same "
            "command goes on."
        ) from err


@contextmanager
def sole_search(out_dir: Path) -> Iterator[None]:
    """Hold a folder's search for this process; the hold ends with the process, however it ends.

    Raises:
        StudyError: Another process holds it.
    """
    lock = FileLock(out_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(
            f"another search is running in {out_dir}. Wait for it, or choose another --out-dir. Several searches share "
            "the work on a study that lies in a database: --storage URL."
        ) from None
    try:
        yield
    finally:
        lock.release()


def remove_engines_of_the_dead(out_dir: Path) -> None:
    """Remove what the workers of killed searches left; only for the sole search in a folder, others' are needed."""
    for left in files_in(out_dir):
        if left.name.startswith(ENGINE_FOLDER):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's own line for each trial off the terminal; opttune shows its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
