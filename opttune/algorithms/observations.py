"""The results of trials, and their scores: the normal quantiles of their ranks.

The model of `gaussian_process` sees only ranks, as normal scores (the Gaussian copula transform of Salinas, Shen and
Perrone 2020, https://arxiv.org/abs/1909.13595). Therefore the metric needs no scale, and a loss of 1e9 weighs no more
than any other bad value. Two points differ from that paper: scores have an upper limit, and failed trials count as the
worst.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import inf
from statistics import NormalDist

from opttune.space.model import Scalar

Values = tuple[float | None, ...]
"""The metric at each rung that a trial has reached, lower is better; None if it is not defined there."""

_NORMAL = NormalDist()
_WORST_SCORE = 0.5
"""Upper limit of the scores, at the 69th percentile. The badness of a bad trial says nothing about the location of the
best trials, which is often beside a cliff. Chosen by hand."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one trial so far.

    Attributes:
        parameters: Its Optuna parameters.
        values: The metric at each rung that it has reached, the end of the full length last; lower is better. Each but
            the last may be None, if the metric is not defined there. Empty if the guard stopped the trial before the
            first rung.
        failed_at: Share of the full length at which the guard or a lack of memory ended it; None if it did not fail.
        diverged_lr: Learning rate at which its loss diverged; None if the loss did not diverge.
    """

    parameters: Mapping[str, Scalar]
    values: Values = ()
    failed_at: float | None = None
    diverged_lr: float | None = None


def latest(values: Values) -> float:
    """Return a trial's latest value; infinity if it has none.

    Example:
        >>> latest((None, 0.5, None)), latest((None,))
        (0.5, inf)
    """
    return next((value for value in reversed(values) if value is not None), inf)


def has_got_worse(values: Values) -> bool:
    """Return whether a trial is worse at its last rung than at the previous one, like an overfitting trial.

    Example:
        >>> has_got_worse((0.5, 0.3, 0.4)), has_got_worse((0.5, 0.3)), has_got_worse((0.5,))
        (True, False, False)
    """
    before, last = values[-2:] if len(values) > 1 else (None, None)
    return before is not None and last is not None and last > before


def best_that_got_worse(trials: Sequence[Values]) -> list[int]:
    """Return the indices of trials that are the best at a rung after the first, and worse there than before.

    Example:
        >>> best_that_got_worse([(0.9, 0.3, 0.5), (0.8, 0.4), (0.7,)])
        [0]
    """
    found = []
    for level in range(1, max(map(len, trials), default=0)):
        reached = [index for index, one in enumerate(trials) if len(one) > level and one[level] is not None]
        best = min(reached, key=lambda index: (trials[index][level] or 0.0, index), default=None)
        if best is not None and has_got_worse(trials[best][: level + 1]):
            found.append(best)
    return list(dict.fromkeys(found))


def is_equal(values: Sequence[float | None]) -> bool:
    """Return whether values at a rung tell nothing: all are equal, or none is defined. A single value may tell.

    Example:
        >>> is_equal([0.5, 0.5, None]), is_equal([0.5, 0.4]), is_equal([0.5]), is_equal([None])
        (True, False, False, True)
    """
    defined = [value for value in values if value is not None]
    return not defined or (len(defined) > 1 and len(set(defined)) == 1)


def first_telling(trials: Sequence[Values]) -> list[float]:
    """Return each trial's value at the first rung that tells trials apart; infinity if it has none there.

    Example:
        >>> first_telling([(0.5, 0.3), (0.5, 0.2), ()]), first_telling([(0.5,), (0.4, 0.1)])
        ([0.3, 0.2, inf], [0.5, 0.4])
    """
    columns = list(zip_longest(*trials))
    telling = next((column for column in columns if not is_equal(column)), columns[0] if columns else ())
    return [inf if value is None else value for value in telling] or [inf] * len(trials)


def scores(observations: Sequence[Observation]) -> list[float]:
    """Return the score of each trial: the normal quantile of its rank; lower is better.

    Trials rank by their latest value, whatever the rung. A promoted trial has a better one, and a deteriorating trial
    ranks by its deteriorated value. Failed trials rank last, with the earliest failure at the end.

    Example:
        >>> good, bad, dead = Observation({}, (0.5, 0.2)), Observation({}, (0.4, 0.3)), Observation({}, failed_at=0.02)
        >>> [round(score, 2) for score in scores([good, bad, dead])]
        [-0.97, 0.0, 0.5]
    """
    found = [0.0] * len(observations)
    for rank, index in enumerate(best_first(observations)):
        found[index] = score_of_rank(rank, len(observations))
    return found


def best_first(observations: Sequence[Observation], by_rung: bool = False) -> list[int]:
    """Return the indices of `observations` from the best trial to the worst; the earlier of equal trials first.

    Args:
        observations: The results of trials.
        by_rung: Whether to separate values of different rungs. If so, all trials first rank by their first rung. The
            promoted trials then rank anew by the next rung, among the places that they share, and so on. A trial that
            was not promoted keeps its place. Otherwise each trial ranks by its latest value.

    Example:
        >>> seen = [Observation({}, (0.5, 0.4)), Observation({}, (0.6, 0.2)), Observation({}, (0.1,))]
        >>> best_first(seen), best_first(seen, by_rung=True)
        ([2, 1, 0], [2, 1, 0])
        >>> best_first([*seen, Observation({}, (0.55,))], by_rung=True)
        [2, 1, 3, 0]
    """
    alive, failed = {}, {}
    for index, one in enumerate(observations):
        if one.failed_at is None and one.values:
            alive[index] = latest(one.values)
        else:
            failed[index] = -(one.failed_at or 0.0)
    order = sorted(alive, key=alive.__getitem__)
    if by_rung:
        # a trial whose metric is not defined yet ranks behind the others
        order.sort(key=lambda index: inf if (first := observations[index].values[0]) is None else first)
        for level in range(1, max((len(one.values) for one in observations), default=0)):
            order = _ranked_anew(order, [_value_at(one, level) for one in observations])
    return order + sorted(failed, key=failed.__getitem__)


def _ranked_anew(order: list[int], values: Sequence[float | None]) -> list[int]:
    """Return an order in which the trials with a value rank by it, among the places that they share."""
    places = [place for place, index in enumerate(order) if values[index] is not None]
    ranked = sorted((order[place] for place in places), key=lambda index: (values[index] or 0.0, index))
    found = list(order)
    for place, index in zip(places, ranked, strict=True):
        found[place] = index
    return found


def _value_at(one: Observation, level: int) -> float | None:
    return one.values[level] if len(one.values) > level else None


def score_of_rank(rank: int, count: int) -> float:
    """Return the score of a rank, counted from 0, among `count` trials."""
    return min(_WORST_SCORE, _NORMAL.inv_cdf((rank + 0.5) / count))
