"""A line search along the learning rate of an optimizer, at the price of short trainings.

A learning rate that is the best of its optimizer so far, and the highest or the lowest that was tried, says little of
where the best lies: the next trial takes ten times as much, or a tenth. Nobody of that optimizer goes on from the first
rung meanwhile, so that a prior that is off by decades costs a tenth of a training for each decade.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log10

from opttune.searching.evidence import Evidence
from opttune.searching.ladder import Standing
from opttune.searching.prior import Parameters, rounded
from opttune.space.model import Field, Range, Space

_STEP = 10.0
"""The factor from one learning rate to the next."""
_LEAST_ROOM_DECADES = 0.2
"""Where less is left of the range, there is no step."""
_NEAR_DECADES = 0.5
"""A prior is right where the best lies as near to it."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one learning rate has given.

    Attributes:
        rate: The learning rate.
        value: The metric at the first rung; lower is better, infinite where the trial died before.
    """

    rate: float
    value: float


def next_rate(field: Field | None, points: Sequence[Point]) -> float | None:
    """Return the learning rate that comes next; None where the best lies between others, or at an end of the range.

    Args:
        field: What the learning rate may be. Only a range on a log scale with a prior is followed.
        points: What was tried.

    Example:
        >>> field = Range(1e-5, 1.0, "log", prior=1e-3)
        >>> next_rate(field, [Point(1e-3, 0.5)]), next_rate(field, [Point(1e-3, 0.5), Point(1e-2, 0.7)])
        (0.01, 0.0001)
        >>> next_rate(field, [Point(1e-3, 0.5), Point(1e-2, 0.7), Point(1e-4, 0.6)])
    """
    if not isinstance(field, Range) or field.scale != "log" or field.prior is None or field.integer:
        return None
    best = min(points, key=lambda one: one.value, default=None)
    if best is None or best.value == inf or best.rate <= 0:
        return None
    if all(one.rate <= best.rate for one in points) and log10(field.high / best.rate) > _LEAST_ROOM_DECADES:
        return rounded(field, min(field.high, best.rate * _STEP))
    if all(one.rate >= best.rate for one in points) and log10(best.rate / field.low) > _LEAST_ROOM_DECADES:
        return rounded(field, max(field.low, best.rate / _STEP))
    return None


def next_steps(space: Space, evidence: Sequence[Evidence]) -> list[Parameters]:
    """Return the parameters of the next trial on the line of each optimizer that has one: its best, with another rate.

    Args:
        space: What may vary.
        evidence: What the trials before have shown, in their order.
    """
    lines = _lines(space, evidence)
    points = {name: [Point(rate, _first(one)) for rate, one in line] for name, line in lines.items()}
    found: list[Parameters] = []
    for branch in space.optimizers:
        mine = points.get(branch.name, [])
        rate = next_rate(branch.get("lr"), mine) if is_searched(branch.name, points) else None
        if rate is not None:
            _, best = min(lines[branch.name], key=lambda one: _first(one[1]))
            found.append({**best.parameters, f"{branch.name}.lr": rate})
    return found


def is_being_searched(space: Space, standings: Sequence[Standing], optimizer: str) -> bool:
    """Return whether the line search of an optimizer goes on, once it has begun.

    Args:
        space: What may vary.
        standings: All trials that have begun, in their order.
        optimizer: Its name.
    """
    field = next((branch.get("lr") for branch in space.optimizers if branch.name == optimizer), None)
    points: dict[str, list[Point]] = {}
    for one in standings:
        if one.rate is not None:
            points.setdefault(one.optimizer, []).append(Point(one.rate, one.values[0] if one.values else inf))
    mine = points.get(optimizer, [])
    return len(mine) > 1 and is_searched(optimizer, points) and next_rate(field, mine) is not None


def is_searched(optimizer: str, points: Mapping[str, Sequence[Point]]) -> bool:
    """Return whether there is a line search for an optimizer.

    There is one for the first that was tried, and for the others where it led away from where it began: priors that are
    right for one are likely right for all.

    Args:
        optimizer: Its name.
        points: What was tried, of each optimizer in the order of its trials, that of the first trial first.
    """
    first = next((name for name, tried in points.items() if tried), optimizer)
    if optimizer == first:
        return True
    best = min(points[first], key=lambda one: one.value)
    return abs(log10(best.rate / points[first][0].rate)) > _NEAR_DECADES


def _lines(space: Space, evidence: Sequence[Evidence]) -> dict[str, list[tuple[float, Evidence]]]:
    """Return the trials of each optimizer with their learning rates, the optimizer of the first trial first."""
    found: dict[str, list[tuple[float, Evidence]]] = {}
    for one in evidence:
        for branch in space.optimizers:
            rate = one.parameters.get(f"{branch.name}.lr")
            if isinstance(rate, int | float):
                found.setdefault(branch.name, []).append((float(rate), one))
    return found


def _first(one: Evidence) -> float:
    return one.values[0] if one.values else inf
