"""Deliver the waiting data of searches to MLflow, while none of these searches runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opttune.errors import InputError
from opttune.shared_folder import remove_empty
from opttune.storages.find_study import find_study
from opttune.storages.open_storage import lock_folder
from opttune.storages.records import ORIGIN
from opttune.storages.study_folder import study_folders
from opttune.study.metadata import StudyMetadata
from opttune.tracking.address import resolve_tracking_uri
from opttune.tracking.spool import count_waiting
from opttune.tracking.study_run import sync


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result for one search's entries.

    Attributes:
        folder: The folder of the search.
        delivered: Number of entries that are now in MLflow.
        waiting: Number of entries that still wait.
        problem: The problem, in a line; empty if there is none.
    """

    folder: str
    delivered: int
    waiting: int
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def sync_studies(
    studies: Sequence[str], storage: str | None, tracking_uri: str | None, timeout_seconds: float
) -> list[SyncResult]:
    """Deliver the entries of earlier searches in their spools.

    Args:
        studies: Names or folders of searches; none for all under `opttune_runs`.
        storage: Optuna storage URL.
        tracking_uri: Address of MLflow; None for that of each search.
        timeout_seconds: Longest time for each search.

    Returns:
        The result for each search with waiting entries.

    Raises:
        StudyError: A search is running in one of the folders.
        InputError: There is no such study, or its MLflow address is unknown.
    """
    folders = [find_study(study, storage).folder for study in studies] if studies else study_folders()
    return [
        _deliver(folder, storage, tracking_uri, timeout_seconds)
        for folder in folders
        if count_waiting(folder / "spool")
    ]


def _deliver(folder: Path, storage: str | None, tracking_uri: str | None, timeout_seconds: float) -> SyncResult:
    spool = folder / "spool"
    with lock_folder(folder):
        waiting = count_waiting(spool)
        writer = sync(resolve_tracking_uri(tracking_uri or _uri_of(folder, storage)), spool, timeout_seconds)
        remove_empty(spool)
    return SyncResult(str(folder), waiting - writer.undelivered, writer.undelivered, writer.problem)


def _uri_of(folder: Path, storage: str | None) -> str | None:
    """Return the MLflow address of a search; None for the default, if the folder does not name one."""
    try:
        study = find_study(folder if storage is None else folder.name, storage).study
    except InputError:
        # the user's own study, with TrialCallback, or a study with its journal elsewhere
        return None
    origin = StudyMetadata.from_dict(study.user_attrs.get(ORIGIN, {}))
    return origin.tracking_uri or None
