"""Deliver to MLflow what searches could not, while no search of theirs runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opttune.errors import InputError
from opttune.shared_folder import remove_empty
from opttune.storages.find_study import find_study, study_folders
from opttune.storages.open_storage import lock_folder
from opttune.storages.records import ORIGIN
from opttune.study.metadata import StudyMetadata
from opttune.tracking.address import resolve_tracking_uri
from opttune.tracking.spool import count_waiting
from opttune.tracking.study_run import sync


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What came of one search's entries.

    Attributes:
        folder: The folder of the search.
        delivered: Entries that are in MLflow now.
        waiting: Entries that wait still.
        problem: What went wrong, in a line; empty if all is well.
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
    """Deliver what earlier searches left in their spools.

    Args:
        studies: Names or folders of searches; none for all under `opttune_runs`.
        storage: Optuna storage URL.
        tracking_uri: Where MLflow is; None for where each search wrote to.
        timeout_seconds: For how long each may be tried.

    Returns:
        What came of each search that had something to deliver.

    Raises:
        StudyError: A search is running in one of the folders.
        InputError: There is no such study, or it is not known where it wrote to.
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
    """Return where a search wrote to; None for the usual place, where the folder does not say."""
    try:
        study = find_study(folder if storage is None else folder.name, storage).study
    except InputError:
        # a study of the user's own, with TrialCallback, or one whose journal lies elsewhere
        return None
    origin = StudyMetadata.from_dict(study.user_attrs.get(ORIGIN, {}))
    return origin.tracking_uri or None
