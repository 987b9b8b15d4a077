"""Find a stored study: by its name, in a storage or under `opttune_runs`, or by the folder of its search."""

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from opttune.errors import InputError, one_of
from opttune.storages.open_storage import open_storage
from opttune.storages.records import OUT_DIR, SPEC, search_names
from opttune.storages.study_folder import RUNS, folder_name, study_folder


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


def _find(study: str, storage: str | None, where: str) -> StudyLocation:
    if storage is not None:
        opened = open_storage(storage, Path())
        if study in optuna.get_all_study_names(opened):
            loaded = optuna.load_study(study_name=study, storage=opened)
            return StudyLocation(loaded, opened, Path(loaded.user_attrs.get(OUT_DIR, RUNS / folder_name(study))))
    folder = study_folder(study, where, in_storage=storage is not None)
    opened = open_storage(None, folder)
    return StudyLocation(_only_study(study, opened, where), opened, folder)


def _only_study(name: str, storage: BaseStorage, where: str) -> optuna.Study:
    names = search_names(optuna.get_all_study_names(storage))
    if name in names:
        return optuna.load_study(study_name=name, storage=storage)
    if len(names) != 1:
        raise InputError(f"{where}: {name} holds {len(names)} studies. {one_of(names)} Give the name of one.")
    return optuna.load_study(study_name=names[0], storage=storage)
