"""Caps on an optimizer's learning-rate range below the rates at which its trials diverged.

Divergence counts as a constraint on only the learning rate: above some rate, every training of an optimizer diverges.
A general method would learn the constraint as a second model (Gelbart, Snoek and Adams 2014,
https://arxiv.org/abs/1403.5607). In one dimension and with few trials, a threshold is enough. This rule is opttune's
own.
"""

from collections.abc import Sequence
from dataclasses import replace

from opttune.algorithms.observations import Observation
from opttune.space.model import Branch, Choice, Field, Range, Scalar, Space

_MARGIN = 0.9
"""The capped range ends at this share of the lowest diverged rate. Chosen by hand."""
_LEAST_SPAN = 1.3
"""Minimum factor from the low end to the high end of a capped range. With another schedule, a rate may be stable after
all. Chosen by hand."""


def cap_learning_rates(space: Space, observations: Sequence[Observation]) -> Space:
    """Return the space without the learning rates at which every trial of the optimizer has diverged.

    A trial that diverged in its warmup caps the range at the rate that it had reached. If another trial stayed stable
    at that rate or above, the cap is the highest rate of the diverged trial's schedule. The cap never removes a rate at
    which a trial stayed stable.
    """
    if all(one.diverged_lr is None for one in observations):
        return space
    branches = {branch.name: branch for branch in space.optimizers}
    rated: dict[str, list[tuple[Observation, float]]] = {name: [] for name in branches}
    only = space.optimizers[0].name if len(space.optimizers) == 1 else None
    for one in observations:
        name = str(only or one.parameters.get("optimizer"))
        rate = _number(one.parameters.get(f"{name}.{branches[name].rate_name}")) if name in branches else None
        if rate is not None:
            rated[name].append((one, rate))
    return space.map_optimizers(lambda branch: _capped(branch, rated[branch.name]))


def _capped(branch: Branch, rated: Sequence[tuple[Observation, float]]) -> Branch:
    """Return a branch with its learning rates capped by its trials, each given with its rate."""
    field = branch.rate
    highest_stable = max((rate for one, rate in rated if one.values), default=0.0)
    broken = [(one.diverged_lr, rate) for one, rate in rated if one.diverged_lr is not None]
    # a factor on a module's own rate says nothing about the rate reached in the warmup
    diverged = [(min(reached, rate) if branch.rate_name == "lr" else rate, rate) for reached, rate in broken]
    caps = [reached if reached > highest_stable else rate for reached, rate in diverged]
    caps = [cap for cap in caps if cap > highest_stable]
    if not caps or field is None:
        return branch
    return branch.with_rate(_below(field, min(caps)))


def _below(field: Field, cap: float) -> Field:
    match field:
        case Range() if field.scale == "log" and not field.integer:
            high = min(field.high, max(_MARGIN * cap, _LEAST_SPAN * field.low))
            return replace(field, high=high, prior=None if field.prior is None else min(field.prior, high), reach=None)
        case Choice():
            left = tuple(choice for choice in field.choices if (_number(choice) or 0.0) < cap)
            return replace(field, choices=left, start=min(field.start, len(left) - 1)) if left else field
    return field


def _number(value: Scalar | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
