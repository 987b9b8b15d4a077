"""Settle the space of a search: fit the requested space to the module, the length and the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isclose
from types import EllipsisType
from typing import Any

from opttune.catalog.lookup import find_optimizer
from opttune.errors import UnsuitableOptimizerError
from opttune.recipe import is_number
from opttune.space.auto import ModelFacts, choose_space, is_suitable, own_alone
from opttune.space.fit import for_budget, for_length, with_reach
from opttune.space.group_facts import with_fitting_groups
from opttune.space.model import GROUPS, Choice, Field, Fixed, Range, Scalar, SettledSpace, Space
from opttune.space.own import fit_own, with_own_values
from opttune.space.parse import load_space
from opttune.yaml_text import inline_yaml

_CLIP = "gradient_clip_norm"
_MANUAL = {_CLIP: Fixed(None), "accumulate_grad_batches": Fixed(1)}
"""Fields that a module handles itself under manual optimization."""
_ROOM = 10.0
"""A range that begins at an earlier best beyond it ends at this factor further out, so that draws fall on both sides,
as in `with_room`."""


@dataclass(frozen=True, slots=True)
class EarlierBest:
    """An optimizer's best trial in an earlier study.

    Attributes:
        optimizer: The optimizer's name.
        schedule: The schedule's name.
        parameters: The trial's Optuna parameters; a field may appear under its own name, with its own value.
        value: Its value.
        origin: What notes call it.
    """

    optimizer: str
    schedule: str
    parameters: dict[str, Scalar]
    value: float
    origin: str = field(default="the earlier best", compare=False)


def settle(
    requested: Space,
    shipped: str,
    *,
    trainer: Mapping[str, Any],
    facts: ModelFacts,
    total_steps: int,
    budget: float,
    earlier: Sequence[EarlierBest] = (),
) -> SettledSpace:
    """Return the space to search.

    A shipped space is fitted: `auto` is chosen for the model; a named space gets priors for the length of the training,
    and only the fields within the budget vary. A user's own space is not fitted. In both, fields without effect on the
    model's parameter groups are left out, and the best trials of an earlier study become the priors.

    Args:
        requested: The requested space, without the fields that the Trainer settles.
        shipped: `auto`, or the name of a shipped space; empty for a user's own.
        trainer: The user's arguments of the Trainer.
        facts: The known facts about the model.
        total_steps: Optimizer steps of one training.
        budget: Cost of the search in full trainings.
        earlier: The best trials of an earlier study, the best first.

    Example:
        >>> facts = ModelFacts(parameters=1000)
        >>> settled = settle(load_space("adamw"), "adamw", trainer={}, facts=facts, total_steps=1000, budget=5)
        >>> [name for name, _ in settled.space.parameters()]
        ['adamw.lr', 'schedule']
    """
    settled = SettledSpace(requested)
    if shipped:
        settled = _fitted(shipped, facts, total_steps, budget)
        settled = replace(settled, space=without_trainer_settings(settled.space, trainer))
    space, left_out = fit_own(settled.space, facts.own)
    settled = _suited(replace(settled, space=space, notes=(*settled.notes, *left_out)), facts)
    settled = with_fitting_groups(settled, facts.groups)
    if not earlier:
        return settled
    # the ranges of a shipped space are where a search begins, not walls
    return with_earlier_best(replace(settled, space=with_reach(settled.space)) if shipped else settled, earlier)


def without_trainer_settings(space: Space, trainer: Mapping[str, Any]) -> Space:
    """Return a space in which fields that the user's Trainer sets are fixed."""
    if space.is_own:
        # the module's own optimizer trains with the Trainer's settings
        return replace(space, training=tuple(one for one in space.training if not _settles(trainer, one[0])))
    fixed: dict[str, Fixed] = {}
    if "precision" in trainer:
        fixed["precision"] = Fixed(None)
    if trainer.get("accumulate_grad_batches") is not None:
        fixed["accumulate_grad_batches"] = Fixed(trainer["accumulate_grad_batches"])
    if trainer.get("gradient_clip_algorithm") not in (None, "norm"):
        fixed["gradient_clip_norm"] = Fixed(None)
    elif trainer.get("gradient_clip_val") is not None:
        fixed["gradient_clip_norm"] = Fixed(trainer["gradient_clip_val"] or None)
    kept = tuple((name, field) for name, field in space.training if name not in fixed)
    return replace(space, training=(*kept, *fixed.items()))


def _settles(trainer: Mapping[str, Any], field: str) -> bool:
    names = {"gradient_clip_norm": ("gradient_clip_val", "gradient_clip_algorithm")}.get(field, (field,))
    return any(trainer.get(name) is not None for name in names)


def with_earlier_best(settled: SettledSpace, earlier: Sequence[EarlierBest]) -> SettledSpace:
    """Return a space whose priors, and so its default recipes, are the best values of an earlier study.

    Optimizers and schedules keep their fields; the best come first. A range widens to a value beyond it, within its
    reach. Any other value outside a field is replaced, and a note says so.

    Args:
        settled: The space to search.
        earlier: The best trials of the earlier study, the best first.
    """
    space = settled.space
    held = {branch.name for branch in space.optimizers}
    known = [one for one in earlier if one.optimizer in held]
    if not known:
        names = ", ".join(one.optimizer for one in earlier)
        note = f"The earlier study tried {names}, which this space does not have: it is not used."
        return SettledSpace(space, (*settled.notes, note), (*settled.warnings, note))
    ranks = {one.optimizer: rank for rank, one in enumerate(known)}
    # common fields come from the best trial, the fields of each optimizer from its own best
    taught = known[0].parameters | {
        name: value for one in known for name, value in one.parameters.items() if name.startswith(f"{one.optimizer}.")
    }
    warm = space.map_fields(lambda name, field: _warm(field, _taught_value(name, field, taught)))
    warm = replace(
        warm,
        optimizers=tuple(sorted(warm.optimizers, key=lambda branch: ranks.get(branch.name, len(ranks)))),
        schedules=tuple(sorted(warm.schedules, key=lambda branch: branch.name != known[0].schedule)),
    )
    changed = (*_left_out(space, earlier, known), *_replaced(space, warm, known))
    return SettledSpace(warm, (*settled.notes, *_why_warm(warm, ranks), *changed), (*settled.warnings, *changed))


def _fitted(shipped: str, facts: ModelFacts, total_steps: int, budget: float) -> SettledSpace:
    if shipped == "auto":
        return choose_space(facts, total_steps, budget)
    requested = load_space(shipped)
    if requested.is_own and facts.own is not None and facts.own.count > 1:
        return own_alone(facts.own, budget)
    requested, left_out = fit_own(requested, facts.own)
    fitted, begins = with_own_values(for_length(requested, total_steps), facts.own)
    space, held = for_budget(fitted, budget)
    notes = (f"held for a budget of {budget:g}: {'; '.join(map(str, held))}",) if held else ()
    return SettledSpace(space, (*left_out, *begins, *notes))


def _suited(settled: SettledSpace, facts: ModelFacts) -> SettledSpace:
    """Return the space without optimizers that cannot train the model.

    Raises:
        UnsuitableOptimizerError: No optimizer is left.
    """
    space = settled.space
    suitable = tuple(branch for branch in space.optimizers if is_suitable(find_optimizer(branch.name), facts))
    left_out = [branch.name for branch in space.optimizers if branch not in suitable]
    what = "complex parameters" if facts.has_complex else "sparse gradients"
    if not suitable:
        raise UnsuitableOptimizerError(
            f"the model has {what}, which no optimizer of the space {space.name} trains ({', '.join(left_out)}). "
            "Give another space: --space sgd, or --space auto, which chooses suitable optimizers."
        )
    notes: tuple[str, ...] = (f"Left out, because the model has {what}: {', '.join(left_out)}.",) if left_out else ()
    training = space.training
    if facts.has_sparse and any(name == _CLIP for name, _ in training):
        training = tuple((name, Fixed(None) if name == _CLIP else field) for name, field in training)
        notes += ("Gradients are not clipped: some are sparse.",)
    given = [name for name, field in training if name in _MANUAL and field != _MANUAL[name]]
    if facts.is_manual and given:
        training = tuple((name, field) for name, field in training if name not in given)
        notes += (f"Left out, because the module's training_step does this itself: {', '.join(given)}.",)
    space = replace(space, optimizers=suitable, training=training)
    return replace(settled, space=space, notes=(*settled.notes, *notes))


def _taught_value(name: str, field: Field, parameters: Mapping[str, Scalar]) -> Scalar | EllipsisType:
    """Return the value of a field as a recipe holds it; `...` if the parameters do not have the field."""
    if name in parameters:
        return parameters[name]
    encoded = Range(0.0, 0.5, "log_of_one_minus").optuna_name(name)
    may_be_encoded = isinstance(field, Fixed) or (isinstance(field, Range) and field.is_encoded)
    return 1 - float(parameters[encoded] or 0) if may_be_encoded and encoded in parameters else ...


def _warm(field: Field, value: Scalar | EllipsisType) -> Field:
    """Return a field that begins at a value, or as near to it as it can."""
    if value is ... or isinstance(field, Fixed):
        return field
    if isinstance(field, Choice):
        return replace(field, start=field.choices.index(value)) if value in field.choices else field
    low, high = field.reach or (field.low, field.high)
    prior = min(high, max(low, float(value or 0)))
    if prior > field.high:
        field = replace(field, high=min(high, _ROOM * prior))
    elif prior < field.low:
        field = replace(field, low=max(low, prior / _ROOM))
    return replace(field, prior=prior)


def _left_out(space: Space, earlier: Sequence[EarlierBest], known: Sequence[EarlierBest]) -> list[str]:
    """Return what of the earlier trials the space does not have, one sentence each."""
    lacks = f"the space {space.name} does not have"
    notes = [f"Not used: {one.origin} ({one.optimizer}), which {lacks}." for one in earlier if one not in known]
    branches = {branch.name: branch for branch in space.optimizers}
    first, optimizer = known[0], branches[known[0].optimizer]
    schedules = space.schedules_of(optimizer)
    if first.schedule and not optimizer.is_own and first.schedule not in [branch.name for branch in schedules]:
        notes.append(f"Not used: the schedule {first.schedule} of {first.origin}, which {lacks}.")
    names = _all_fields(space).keys()
    for one in known:
        own = [
            name
            for name in one.parameters
            if name.startswith(f"{one.optimizer}.") and not {name, name.replace(".one_minus_", ".")} & names
        ]
        if own:
            notes.append(f"Not used: {', '.join(own)} of {one.origin}, which {lacks}.")
    return notes


def _replaced(space: Space, warm: Space, known: Sequence[EarlierBest]) -> list[str]:
    """Return a sentence for each earlier value that the space replaces by another."""
    now, notes = _all_fields(warm), []
    for name, before in _all_fields(space).items():
        # as in the space, common fields come from the best trial
        one = next((one for one in known if name.startswith(f"{one.optimizer}.")), known[0])
        value, start = _taught_value(name, before, one.parameters), now[name].centre
        if value is ... or value == start or (is_number(value) and is_number(start) and isclose(value, start)):
            continue
        notes.append(
            f"The {name} {_words(value)} of {one.origin} became {_words(start)}: {_why_replaced(before, space.name)}."
        )
    return notes


def _why_replaced(field: Field, space: str) -> str:
    match field:
        case Range():
            low, high = field.reach or (field.low, field.high)
            return f"the space {space} allows {low:g} to {high:g}"
        case Choice():
            return f"it is not a choice of the space {space}"
    return f"the space {space} does not vary it"


def _words(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else inline_yaml(value)


def _all_fields(space: Space) -> dict[str, Field]:
    """Return every field by its full name, including fixed ones."""
    branches = (*space.optimizers, *space.schedules)
    found = {f"{branch.name}.{name}": field for branch in branches for name, field in branch.fields}
    return found | dict(space.training) | {f"{GROUPS}.{name}": field for name, field in space.group_fields}


def _why_warm(space: Space, known: Mapping[str, int]) -> tuple[str, ...]:
    rates = [
        f"{branch.name} {lr.centre:.3g}"
        for branch in space.optimizers
        if branch.name in known and isinstance(lr := branch.get("lr"), Range)
    ]
    # the note on the optimizer that would be tried first without the study comes before
    first = f", with {space.optimizers[0].name} first" if len(space.optimizers) > 1 else ""
    return (f"Starts from the best of an earlier study{first}: lr of {', '.join(rates)}.",) if rates else ()
