"""Read the best trial of each optimizer in an earlier study, as a start for a new search."""

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from opttune.errors import InputError
from opttune.space.settle import EarlierBest
from opttune.storages.find_study import find_study
from opttune.storages.records import read_trial
from opttune.study.selection import is_better


def find_earlier(study: str | Path, storage: str | None = None) -> list[EarlierBest]:
    """Return each optimizer's best trial in an earlier study, the best first.

    Args:
        study: Name of a study, to find in `storage`, if given, and in `opttune_runs/<study>`; or the folder of a
            search.
        storage: Optuna storage URL.

    Raises:
        InputError: There is no such study, it is not one of opttune's, or none of its trials has finished.
    """
    loaded = find_study(study, storage, "warm start").study
    mode = "max" if loaded.direction == optuna.study.StudyDirection.MAXIMIZE else "min"
    best: dict[str, EarlierBest] = {}
    for trial in loaded.get_trials(deepcopy=False):
        found = _read(loaded.study_name, trial)
        known = best.get(found.optimizer) if found else None
        if found is not None and is_better(found.value, known.value if known else None, mode):
            best[found.optimizer] = found
    if not best:
        raise InputError(f"warm start: no trial of the study {loaded.study_name!r} has finished.")
    return sorted(best.values(), key=lambda one: one.value, reverse=mode == "max")


def _read(study: str, trial: FrozenTrial) -> EarlierBest | None:
    record = read_trial(trial)
    if record.value is None or record.recipe is None:
        return None
    recipe = record.recipe
    name = f"trial {trial.number} of {study}"
    return EarlierBest(recipe.optimizer.name, recipe.schedule.name, dict(trial.params), record.value, name)
