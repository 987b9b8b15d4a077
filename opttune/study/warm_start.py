"""Start a search from what an earlier study found: its best recipe of each optimizer becomes the prior."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from opttune.errors import InputError
from opttune.space.model import Branch, Choice, Field, Fixed, Range, Scalar, Space
from opttune.space.sample import parameter
from opttune.space.settle import SettledSpace
from opttune.storages.find_study import find_study
from opttune.storages.records import read_trial
from opttune.study.selection import is_better


@dataclass(frozen=True, slots=True)
class EarlierBest:
    """An optimizer's best trial in an earlier study.

    Attributes:
        optimizer: The optimizer's name.
        schedule: The schedule's name.
        parameters: The trial's Optuna parameters.
        value: Its value.
    """

    optimizer: str
    schedule: str
    parameters: dict[str, Scalar]
    value: float


def find_earlier(study: str | Path, storage: str | None = None) -> list[EarlierBest]:
    """Return each optimizer's best trial in an earlier study, the best first.

    Args:
        study: Name of a study, looked for in `storage` where that is given, and in `opttune_runs/<study>`; or the
            folder of a search.
        storage: Optuna storage URL.

    Raises:
        InputError: There is no such study, it is not one of opttune's, or none of its trials came to an end.
    """
    loaded = find_study(study, storage, "warm start").study
    mode = "max" if loaded.direction == optuna.study.StudyDirection.MAXIMIZE else "min"
    best: dict[str, EarlierBest] = {}
    for trial in loaded.get_trials(deepcopy=False):
        found = _read(trial)
        known = best.get(found.optimizer) if found else None
        if found is not None and is_better(found.value, known.value if known else None, mode):
            best[found.optimizer] = found
    if not best:
        raise InputError(f"warm start: no trial of the study {loaded.study_name!r} came to its end.")
    return sorted(best.values(), key=lambda one: one.value, reverse=mode == "max")


def with_earlier_best(settled: SettledSpace, earlier: Sequence[EarlierBest]) -> SettledSpace:
    """Return a space whose priors, and so its default recipes, are what an earlier study found best.

    Optimizers and schedules keep their fields and ranges; those that were best come first. What lies outside a range
    is moved to its end.

    Args:
        settled: The space to search.
        earlier: The earlier study's best, the best first.
    """
    space = settled.space
    ranks = {one.optimizer: rank for rank, one in enumerate(earlier)}
    order = sorted(space.optimizers, key=lambda branch: ranks.get(branch.name, len(ranks)))
    known = [one for one in earlier if any(branch.name == one.optimizer for branch in space.optimizers)]
    if not known:
        names = ", ".join(one.optimizer for one in earlier)
        note = f"The earlier study tried {names}, none of which this space holds: it teaches nothing."
        return SettledSpace(space, (*settled.notes, note))
    by_name = {one.optimizer: one.parameters for one in known}
    first = known[0]
    schedules = sorted(space.schedules, key=lambda branch: branch.name != first.schedule)
    warm = replace(
        space,
        optimizers=tuple(_warm_branch(branch, by_name.get(branch.name, {})) for branch in order),
        schedules=tuple(_warm_branch(branch, first.parameters) for branch in schedules),
        training=tuple((name, _warm(name, field, first.parameters)) for name, field in space.training),
    )
    return SettledSpace(warm, (*settled.notes, *_notes(warm, by_name)))


def _notes(space: Space, by_name: dict[str, dict[str, Scalar]]) -> list[str]:
    rates = [
        f"{branch.name} {lr.centre:.3g}"
        for branch in space.optimizers
        if branch.name in by_name and isinstance(lr := branch.get("lr"), Range)
    ]
    return [f"Starts from the best of an earlier study: lr of {', '.join(rates)}."] if rates else []


def _warm_branch(branch: Branch, parameters: dict[str, Scalar]) -> Branch:
    fields = tuple((name, _warm(f"{branch.name}.{name}", field, parameters)) for name, field in branch.fields)
    return replace(branch, fields=fields)


def _warm(name: str, field: Field, parameters: dict[str, Scalar]) -> Field:
    if isinstance(field, Fixed):
        return field
    asked, _ = parameter(name, field, field.centre)
    if asked not in parameters:
        return field
    value = parameters[asked]
    if isinstance(field, Choice):
        return replace(field, start=field.choices.index(value)) if value in field.choices else field
    number = float(value or 0)
    number = 1 - number if field.scale == "log_of_one_minus" else number
    return replace(field, prior=min(field.high, max(field.low, number)))


def _read(trial: FrozenTrial) -> EarlierBest | None:
    record = read_trial(trial)
    if record.value is None or record.recipe is None:
        return None
    recipe = record.recipe
    return EarlierBest(recipe.optimizer.name, recipe.schedule.name, dict(trial.params), record.value)
