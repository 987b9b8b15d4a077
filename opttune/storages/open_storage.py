"""Open the storage of a study, and lock its folder: a journal file, or any database that Optuna supports."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from opttune.errors import InputError, OpttuneError, StudyError
from opttune.storages.journal import open_journal, remove_stale_lock
from opttune.tracking.address import safe_uri
from opttune.training.errors import raise_if_disk_is_full

LOCK_NAME = ".lock"
"""The file in the folder of a search that its process locks."""
_JOURNAL = "journal://"
_SQLITE_WAIT_SECONDS = 60
"""Time for which a process waits for another's write."""
_TABLES_SECONDS = 3.0
"""Time within which the tables of a new database are created."""


def open_storage(url: str | None, out_dir: Path) -> BaseStorage:
    """Open a storage for studies.

    Args:
        url: Any database URL that Optuna supports, or `journal:///path` for a journal file that several processes
            share; None for the journal file `study.journal` in `out_dir`.
        out_dir: The folder of the search; without a URL, this process must have locked it (`lock_folder`).

    Raises:
        InputError: The storage cannot be opened.
    """
    try:
        if url is None:
            remove_stale_lock(out_dir / "study.journal.lock")
            return open_journal(out_dir / "study.journal")
        if url.startswith(_JOURNAL):
            return open_journal(Path(url.removeprefix(_JOURNAL)))
        return _open_database(url)
    except Exception as err:  # database drivers may raise anything
        problem = safe_uri(f"the storage {url or out_dir} cannot be opened: {type(err).__name__}: {err}")
        raise InputError(problem) from None


def _open_database(url: str) -> BaseStorage:
    # a server may have closed an idle connection during a long training
    wait: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_WAIT_SECONDS}}
    settings: dict[str, Any] = wait if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return RDBStorage(url, engine_kwargs=settings)
    except SQLAlchemyError:
        # if two processes create the tables of a new database, one comes too late
        time.sleep(_TABLES_SECONDS)
        return RDBStorage(url, engine_kwargs=settings)


@contextmanager
def explain_storage_errors() -> Iterator[None]:
    """Explain a failure of the storage, or of its disk, during a search.

    Raises:
        DiskFullError: The disk is full.
        StudyError: The storage is no longer reachable.
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
            f"the storage of the study fails ({problem}). Nothing finished is lost: once it is reachable again, "
            "the same command resumes it."
        ) from err


@contextmanager
def lock_folder(out_dir: Path) -> Iterator[None]:
    """Lock a folder's search for this process; the lock ends with the process, however it ends.

    Raises:
        StudyError: Another process holds the lock.
    """
    lock = FileLock(out_dir / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(
            f"another search is running in {out_dir}. Wait for it, or give this one another name (--study NAME) or "
            "folder (--out-dir). Several searches can share a study in a database: --storage URL."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Hide Optuna's own line for each trial, because opttune shows its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
