"""Find a stored study: by its name, in a storage or under `opttune_runs`, or by the folder of its search."""

import re
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from opttune.errors import InputError, one_of
from opttune.shared_folder import files_in
from opttune.storages.open_storage import open_storage
from opttune.storages.records import OUT_DIR, SPEC, search_names

_RUNS = Path("opttune_runs")


@dataclass(frozen=True, slots=True)
class StudyLocation:
    """A study and its location.

    Attributes:
        study: Optuna's study, made by `opttune search`.
        storage: Its open storage.
        folder: The folder of the search's files.
    """

    study: optuna.Study
    storage: BaseStorage
    folder: Path


def find_study(study: str | Path, storage: str | None = None, where: str = "STUDY") -> StudyLocation:
    """Find a study.

    Args:
        study: Name of a study, to find in `storage`, if given, and in `opttune_runs/<study>`; or the folder of a
            search.
        storage: Optuna storage URL.
        where: The place that errors name.

    Raises:
        InputError: There is no such study, or it is not one of opttune's.
    """
    found = _find(str(study), storage, where)
    if SPEC not in found.study.user_attrs:
        raise InputError(f"{where}: the study {found.study.study_name!r} was not made by opttune search.")
    return found


def folder_name(study_name: str) -> str:
    """Return a study's name as the name of a folder.

    Example:
        >>> folder_name("Net: wide/2")
        'Net_wide_2'
    """
    return re.sub(r"[^\w.-]+", "_", study_name).strip(".") or "_"


def study_folders() -> list[Path]:
    """Return the folders of all searches under `opttune_runs`."""
    return [Path(folder) for folder in files_in(_RUNS) if folder.is_dir()]


def _find(study: str, storage: str | None, where: str) -> StudyLocation:
    if storage is not None:
        opened = open_storage(storage, Path())
        if study in optuna.get_all_study_names(opened):
            loaded = optuna.load_study(study_name=study, storage=opened)
            return StudyLocation(loaded, opened, Path(loaded.user_attrs.get(OUT_DIR, _RUNS / folder_name(study))))
    folders = [folder for folder in (Path(study), _RUNS / folder_name(study)) if _has_journal(folder)]
    if not folders:
        looked_in = f"the storage, {study}" if storage is not None else study
        raise InputError(
            f"{where}: there is no study {study!r} (looked in {looked_in} and {_RUNS / folder_name(study)}). "
            f"Give the name of a study, or the folder of its search.{_known()}"
        )
    opened = open_storage(None, folders[0])
    return StudyLocation(_only_study(study, opened, where), opened, folders[0])


def _known() -> str:
    names = [folder.name for folder in study_folders() if _has_journal(folder)]
    return f" Here are: {', '.join(names[:8])}." if names else ""


def _has_journal(folder: Path) -> bool:
    return (folder / "study.journal").is_file()


def _only_study(name: str, storage: BaseStorage, where: str) -> optuna.Study:
    names = search_names(optuna.get_all_study_names(storage))
    if name in names:
        return optuna.load_study(study_name=name, storage=storage)
    if len(names) != 1:
        raise InputError(f"{where}: {name} holds {len(names)} studies. {one_of(names)} Give the name of one.")
    return optuna.load_study(study_name=names[0], storage=storage)
