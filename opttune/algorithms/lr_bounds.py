"""Learning rates at which trials diverged bound what is drawn later."""

from collections.abc import Sequence
from dataclasses import replace

from opttune.algorithms.observations import Observation
from opttune.space.model import Branch, Choice, Field, Range, Scalar, Space

_BELOW = 0.9
"""As far below a rate that diverged the range ends."""
_LEAST_SPAN = 1.3
"""What is left of a range spans at least this factor: with another schedule a rate may be stable after all."""


def cap_learning_rates(space: Space, observations: Sequence[Observation]) -> Space:
    """Return the space without the learning rates at which every trial of their optimizer has diverged.

    A trial that diverged in its warmup bounds by the rate that it had there, unless another has lived at more: then
    by its highest one.

    Args:
        space: What may vary.
        observations: What the trials have shown.
    """
    if all(one.diverged_lr is None for one in observations):
        return space
    rated: dict[str, list[tuple[Observation, float]]] = {branch.name: [] for branch in space.optimizers}
    only = space.optimizers[0].name if len(space.optimizers) == 1 else None
    for one in observations:
        name = only or one.parameters.get("optimizer")
        rate = _number(one.parameters.get(f"{name}.lr"))
        if rate is not None and name in rated:
            rated[str(name)].append((one, rate))
    optimizers = tuple(_bounded(branch, rated[branch.name]) for branch in space.optimizers)
    return space if optimizers == space.optimizers else replace(space, optimizers=optimizers)


def _bounded(branch: Branch, rated: Sequence[tuple[Observation, float]]) -> Branch:
    """Return it by what its trials, each with its learning rate, have shown."""
    field = branch.get("lr")
    highest = max((rate for one, rate in rated if one.values), default=0.0)
    died = [(one.diverged_lr, rate) for one, rate in rated if one.diverged_lr is not None]
    bounds = [lr if lr > highest else rate for lr, rate in ((min(lr, rate), rate) for lr, rate in died)]
    bounds = [bound for bound in bounds if bound > highest]
    if not bounds or field is None:
        return branch
    narrowed = _below(field, min(bounds))
    return replace(branch, fields=tuple((name, narrowed if name == "lr" else one) for name, one in branch.fields))


def _below(field: Field, bound: float) -> Field:
    match field:
        case Range() if field.scale == "log" and not field.integer:
            high = min(field.high, max(_BELOW * bound, _LEAST_SPAN * field.low))
            return replace(field, high=high, prior=None if field.prior is None else min(field.prior, high))
        case Choice():
            left = tuple(choice for choice in field.choices if (_number(choice) or 0.0) < bound)
            return replace(field, choices=left, start=min(field.start, len(left) - 1)) if left else field
    return field


def _number(value: Scalar | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
