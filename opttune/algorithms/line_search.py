"""A line search along the learning rate of each optimizer, at the cost of short trainings.

This is the bracketing phase of a one-dimensional minimization (Press et al. 2007, Numerical Recipes, 3rd edition,
section 10.1) over the logarithm of the learning rate. If an optimizer's best rate so far is the highest or the lowest
tried, the minimum may lie beyond it. The next trial then takes ten times that rate, or a tenth. The line search ends
when the best rate lies between two worse ones, or at the end of the range.

In long trainings the best rate often falls with the length, most of all if a training overfits. If the best trial of a
rung is worse there than at the previous rung, the next lower rate therefore follows it to that rung
(`next_points_below`, `successive_halving.following`).

The line search departs from the textbook in these points. The step does not grow, because a decade is already wide.
Nothing refines the bracket; the Gaussian process chooses the rates after that. A point is the value at the first rung,
and no trial of the optimizer is promoted from there meanwhile. A prior that is off by decades therefore costs a tenth
of a training for each decade. Without the line search, recorded trainings cost 0.42 of TPE's instead of 0.26
(docs/the_search.md).

A range with `reach` is where a search begins, not a wall. If the line search finds an optimizer's best rate beyond it,
the range of later draws and mutations widens to there (`widen_ranges`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, log10
from typing import TypeGuard

from opttune.algorithms.draws import Parameters
from opttune.algorithms.observations import Observation, best_first, best_that_got_worse, first_telling
from opttune.algorithms.rungs import TrialProgress
from opttune.space.model import Branch, Field, Range, Space

_STEP = 10.0
"""The factor from one learning rate to the next. Chosen by hand."""
_LEAST_ROOM_DECADES = 0.2
"""Minimum distance to the end of the range for another step, in decades. Chosen by hand."""


@dataclass(frozen=True, slots=True)
class LinePoint:
    """One learning rate and its result.

    Attributes:
        rate: The learning rate.
        value: The metric at the first rung that tells trials apart; lower is better. It is infinite if the trial
            failed before that rung or has no value there.
    """

    rate: float
    value: float


def is_searchable(field: Field | None) -> TypeGuard[Range]:
    """Return whether a line search applies to a field: only to a range on a log scale with a prior."""
    return isinstance(field, Range) and field.scale == "log" and field.prior is not None and not field.integer


def next_rate(field: Field | None, points: Sequence[LinePoint]) -> float | None:
    """Return the next learning rate, or None if the best lies between others or at the end of the allowed range.

    Args:
        field: The field of the learning rate.
        points: The tried rates.

    Example:
        >>> field = Range(1e-5, 1.0, "log", prior=1e-3)
        >>> next_rate(field, [LinePoint(1e-3, 0.5)]), next_rate(field, [LinePoint(1e-3, 0.5), LinePoint(1e-2, 0.7)])
        (0.01, 0.0001)
        >>> next_rate(field, [LinePoint(1e-3, 0.5), LinePoint(1e-2, 0.7), LinePoint(1e-4, 0.6)])
    """
    if not is_searchable(field):
        return None
    best = min(points, key=lambda one: one.value, default=None)
    if best is None or best.value == inf or best.rate <= 0:
        return None
    low, high = field.reach or (field.low, field.high)
    if all(one.rate <= best.rate for one in points) and log10(high / best.rate) > _LEAST_ROOM_DECADES:
        return field.rounded(min(high, best.rate * _STEP))
    if all(one.rate >= best.rate for one in points) and log10(best.rate / low) > _LEAST_ROOM_DECADES:
        return field.rounded(max(low, best.rate / _STEP))
    return None


def next_points(space: Space, observations: Sequence[Observation]) -> list[Parameters]:
    """Return the next configuration of each line search, with the best optimizer first.

    It is the optimizer's best configuration with another learning rate.

    Args:
        space: The search space.
        observations: The results of earlier trials.
    """
    found: list[tuple[float, Parameters]] = []
    for branch in space.optimizers:
        name = f"{branch.name}.{branch.rate_name}"
        own = [one for one in observations if isinstance(one.parameters.get(name), int | float)]
        values = first_telling([one.values for one in own])
        points = [LinePoint(float(one.parameters[name] or 0), value) for one, value in zip(own, values, strict=True)]
        rate = next_rate(branch.rate, points)
        if rate is not None:
            found.append((min(values), {**own[values.index(min(values))].parameters, name: rate}))
    return [parameters for _, parameters in sorted(found, key=lambda one: one[0])]


def next_points_below(space: Space, observations: Sequence[Observation]) -> list[Parameters]:
    """Return each overfitting trial with a tenth of its rate, if no trial of its optimizer had a lower rate.

    Args:
        space: The search space.
        observations: The results of earlier trials.
    """
    found: list[Parameters] = []
    only = space.optimizers[0].name if len(space.optimizers) == 1 else None
    branches = {branch.name: branch for branch in space.optimizers}
    for index in best_that_got_worse([one.values for one in observations]):
        parameters = observations[index].parameters
        branch = branches.get(str(only or parameters.get("optimizer")))
        if branch is None or not is_searchable(branch.rate):
            continue
        name = f"{branch.name}.{branch.rate_name}"
        rates = [one.parameters.get(name) for one in observations]
        lowest = min(float(rate) for rate in rates if isinstance(rate, int | float))
        low = branch.rate.low if branch.rate.reach is None else branch.rate.reach[0]
        if parameters.get(name) == lowest and log10(lowest / low) > _LEAST_ROOM_DECADES:
            found.append({**parameters, name: branch.rate.rounded(max(low, lowest / _STEP))})
    return found


def widen_ranges(space: Space, observations: Sequence[Observation], by_rung: bool = False) -> Space:
    """Return a space in which a learning-rate range includes the values around its optimizer's best trial beyond it.

    A range never widens beyond `Range.reach`, nor for a trial that is not the best of its optimizer. Priors stay.

    Args:
        space: The search space.
        observations: The results of earlier trials.
        by_rung: Whether values of different rungs are separated, as in `best_first`.
    """
    only = space.optimizers[0].name if len(space.optimizers) == 1 else None
    ranked: dict[str, list[Observation]] = {branch.name: [] for branch in space.optimizers}
    for index in best_first(observations, by_rung):
        name = str(only or observations[index].parameters.get("optimizer"))
        ranked.get(name, []).append(observations[index])
    return space.map_optimizers(lambda branch: _widened(branch, ranked[branch.name]))


def _widened(branch: Branch, ranked: Sequence[Observation]) -> Branch:
    """Return a branch with the range of its learning rate widened; its own trials are given from the best on."""
    field, name = branch.rate, f"{branch.name}.{branch.rate_name}"
    if not isinstance(field, Range) or field.reach is None or not ranked:
        return branch
    best = ranked[0].parameters.get(name)
    if not isinstance(best, int | float) or not ranked[0].values or ranked[0].failed_at is not None:
        return branch
    tried = [rate for one in ranked if isinstance(rate := one.parameters.get(name), int | float) and rate > 0]
    if best > field.high:
        return branch.with_rate(replace(field, high=min(field.reach[1], _room_to(best, max(tried), _STEP))))
    if 0 < best < field.low:
        return branch.with_rate(replace(field, low=max(field.reach[0], _room_to(best, min(tried), 1 / _STEP))))
    return branch


def _room_to(best: float, outermost: float, step: float) -> float:
    """Return the outermost tried rate, or the next step from the best one if there is hardly any room between them."""
    # near the best rate, another field may have made a trial worse
    return outermost if abs(log10(outermost / best)) > _LEAST_ROOM_DECADES else best * step


def is_being_searched(space: Space, progress: Sequence[TrialProgress], optimizer: str, from_points: int = 2) -> bool:
    """Return whether an optimizer's line search has begun but not ended.

    Args:
        space: The search space.
        progress: All trials that have reached a rung or ended.
        optimizer: The optimizer's name.
        from_points: The number of the optimizer's trials with which the search counts as begun.
    """
    branch = next((branch for branch in space.optimizers if branch.name == optimizer), None)
    if branch is None or (len(branch.names) > 1 and not branch.is_own):
        # the rates of several optimizers no longer follow from one factor
        return False
    field = branch.rate
    own = [one for one in progress if one.optimizer == optimizer and one.rate is not None]
    values = first_telling([one.values for one in own])
    points = [LinePoint(one.rate or 0.0, value) for one, value in zip(own, values, strict=True)]
    return len(points) >= from_points and next_rate(field, points) is not None
