"""A line search along the learning rate of each optimizer, at the price of short trainings.

A learning rate that is the best of its optimizer so far, and the highest or the lowest that was tried, says little of
where the best lies: the next trial takes ten times as much, or a tenth. Nobody of that optimizer goes on from the first
rung meanwhile, so that a prior that is off by decades costs a tenth of a training for each decade.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log10
from typing import TypeGuard

from opttune.algorithms.draws import Parameters, rounded
from opttune.algorithms.observations import Observation
from opttune.algorithms.successive_halving import Standing
from opttune.space.model import Field, Range, Space

_STEP = 10.0
"""The factor from one learning rate to the next."""
_LEAST_ROOM_DECADES = 0.2
"""Where less is left of the range, there is no step."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one learning rate has given.

    Attributes:
        rate: The learning rate.
        value: The metric at the first rung; lower is better, infinite where the trial died before.
    """

    rate: float
    value: float


def follows(field: Field | None) -> TypeGuard[Range]:
    """Return whether a line search goes along a field: a range on a log scale with a prior."""
    return isinstance(field, Range) and field.scale == "log" and field.prior is not None and not field.integer


def next_rate(field: Field | None, points: Sequence[Point]) -> float | None:
    """Return the learning rate that comes next; None where the best lies between others, or at an end of the range.

    Args:
        field: What the learning rate may be.
        points: What was tried.

    Example:
        >>> field = Range(1e-5, 1.0, "log", prior=1e-3)
        >>> next_rate(field, [Point(1e-3, 0.5)]), next_rate(field, [Point(1e-3, 0.5), Point(1e-2, 0.7)])
        (0.01, 0.0001)
        >>> next_rate(field, [Point(1e-3, 0.5), Point(1e-2, 0.7), Point(1e-4, 0.6)])
    """
    if not follows(field):
        return None
    best = min(points, key=lambda one: one.value, default=None)
    if best is None or best.value == inf or best.rate <= 0:
        return None
    if all(one.rate <= best.rate for one in points) and log10(field.high / best.rate) > _LEAST_ROOM_DECADES:
        return rounded(field, min(field.high, best.rate * _STEP))
    if all(one.rate >= best.rate for one in points) and log10(best.rate / field.low) > _LEAST_ROOM_DECADES:
        return rounded(field, max(field.low, best.rate / _STEP))
    return None


def next_points(space: Space, observations: Sequence[Observation]) -> list[Parameters]:
    """Return the parameters of the next trial on the line of each optimizer that has one: its best, with another rate.

    Args:
        space: What may vary.
        observations: What the trials before have shown.
    """
    found: list[Parameters] = []
    for branch in space.optimizers:
        name = f"{branch.name}.lr"
        mine = [one for one in observations if isinstance(one.parameters.get(name), int | float)]
        rate = next_rate(branch.get("lr"), [Point(float(one.parameters[name] or 0), _first(one)) for one in mine])
        if rate is not None:
            found.append({**min(mine, key=_first).parameters, name: rate})
    return found


def is_being_searched(space: Space, standings: Sequence[Standing], optimizer: str) -> bool:
    """Return whether the line search of an optimizer goes on, once it has begun.

    Args:
        space: What may vary.
        standings: All trials that have begun.
        optimizer: Its name.
    """
    field = next((branch.get("lr") for branch in space.optimizers if branch.name == optimizer), None)
    points = [Point(one.rate, _first(one)) for one in standings if one.optimizer == optimizer and one.rate is not None]
    return len(points) > 1 and next_rate(field, points) is not None


def _first(one: Observation | Standing) -> float:
    return one.values[0] if one.values else inf
