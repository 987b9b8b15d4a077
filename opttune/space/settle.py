"""Settle the space of a search: fit the requested space to the module, the length and the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opttune.catalog.lookup import find_optimizer
from opttune.errors import UnsuitableOptimizerError
from opttune.space.auto import ModelFacts, choose_space, is_suitable, own_alone
from opttune.space.fit import for_budget, for_length
from opttune.space.group_facts import with_fitting_groups
from opttune.space.model import Choice, Field, Fixed, Range, Scalar, SettledSpace, Space
from opttune.space.own import fit_own, with_own_values
from opttune.space.parse import load_space

_CLIP = "gradient_clip_norm"
_MANUAL = {_CLIP: Fixed(None), "accumulate_grad_batches": Fixed(1)}
"""Fields that a module handles itself under manual optimization."""


@dataclass(frozen=True, slots=True)
class EarlierBest:
    """An optimizer's best trial in an earlier study.

    Attributes:
        optimizer: The optimizer's name.
        schedule: The schedule's name.
        parameters: The trial's Optuna parameters; a field may appear under its own name, with its own value.
        value: Its value.
    """

    optimizer: str
    schedule: str
    parameters: dict[str, Scalar]
    value: float


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
    settled = _suited(SettledSpace(space, (*settled.notes, *left_out)), facts)
    settled = with_fitting_groups(settled, facts.groups)
    return with_earlier_best(settled, earlier) if earlier else settled


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

    Optimizers and schedules keep their fields and ranges; the best come first. A value outside a range is clipped.

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
        return SettledSpace(space, (*settled.notes, note))
    ranks = {one.optimizer: rank for rank, one in enumerate(known)}
    # common fields come from the best trial, the fields of each optimizer from its own best
    taught = known[0].parameters | {
        name: value for one in known for name, value in one.parameters.items() if name.startswith(f"{one.optimizer}.")
    }
    warm = space.map_fields(lambda name, field: _warm(name, field, taught))
    warm = replace(
        warm,
        optimizers=tuple(sorted(warm.optimizers, key=lambda branch: ranks.get(branch.name, len(ranks)))),
        schedules=tuple(sorted(warm.schedules, key=lambda branch: branch.name != known[0].schedule)),
    )
    return SettledSpace(warm, (*settled.notes, *_why_warm(warm, ranks)))


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
    return SettledSpace(replace(space, optimizers=suitable, training=training), (*settled.notes, *notes))


def _warm(name: str, field: Field, parameters: Mapping[str, Scalar]) -> Field:
    if isinstance(field, Fixed):
        return field
    if name in parameters and field.optuna_name(name) != name and isinstance(field, Range):
        # as a recipe holds it, not as a study does
        return replace(field, prior=field.clip(float(parameters[name] or 0)))
    if field.optuna_name(name) not in parameters:
        return field
    value = parameters[field.optuna_name(name)]
    if isinstance(field, Choice):
        return replace(field, start=field.choices.index(value)) if value in field.choices else field
    return replace(field, prior=field.clip(field.from_optuna(value)))


def _why_warm(space: Space, known: Mapping[str, int]) -> tuple[str, ...]:
    rates = [
        f"{branch.name} {lr.centre:.3g}"
        for branch in space.optimizers
        if branch.name in known and isinstance(lr := branch.get("lr"), Range)
    ]
    return (f"Starts from the best of an earlier study: lr of {', '.join(rates)}.",) if rates else ()
