"""The trials that have reached a rung, as competitors: which of them deserve the next one."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import inf, sqrt
from statistics import median

import numpy as np
import numpy.typing as npt

from opttune.algorithms.observations import Values, is_equal
from opttune.algorithms.rungs import SuccessiveHalving, TrialProgress

_LEAST_FINISHED = 2
"""Minimum number of finished trials for the check of a rung for overfitting. Chosen by hand."""
_MARGIN = 0.1
"""Margin by which a trial may be worse at a rung than the best finished trial was there, as a share of the distance to
the median. Chosen by hand."""
_LEAST_PAIRS = 6
_LEAST_CORRELATION = 0.5
"""From `_LEAST_PAIRS` finished trials, a rung is not informative if its rank correlation with the end is lower. Both
were chosen by hand; no benchmark has varied them."""


class RungPeers:
    """All trials that have reached a rung, as competitors of a paused trial there.

    Args:
        halving: The shares of promoted trials.
        rungs: The rungs in optimizer steps, the full length last.
        progress: All trials that have reached a rung or ended.
        steps: The rung.
        at_once: The number of concurrent trials, any of which may be the latest.
    """

    def __init__(
        self,
        halving: SuccessiveHalving,
        rungs: Sequence[int],
        progress: Sequence[TrialProgress],
        steps: int,
        at_once: int,
    ) -> None:
        level = self._level = rungs.index(steps)
        self._halving, self._progress, self._at_once = halving, progress, at_once
        self._finished = [one for one in progress if len(one.values) == len(rungs)]
        self._gets_worse, self._disagree, self._worst_finished = _compare_with_end(
            tuple([one.values for one in self._finished]), level
        )
        self._tells_nothing = is_equal([one.values[level] for one in progress if len(one.values) > level])
        # if short rungs were omitted, the shares of the last rungs apply
        from_end = level - (len(rungs) - 1)
        self._kept, self._kept_of_all = halving.kept[from_end], halving.kept_of_all[from_end]
        self._is_first = -from_end == len(halving.kept)

    @property
    def is_informative(self) -> bool:
        """Whether values at the rung predict the final ones."""
        return not (self._tells_nothing or self._gets_worse or self._disagree)

    def is_promotable(self, trial: TrialProgress) -> bool:
        """Return whether a paused trial qualifies for promotion at this rung.

        At a rung that is not informative, only the latest trials qualify. Trials that paused while the rung was still
        informative have shown that they are worse, at least there. At a rung that tells nothing, all trials qualify. A
        trial without a value waits until no new trial can start, if others have a value.
        """
        at_rung, value = trial.values[self._level], self._worth(trial)
        if self._tells_nothing or at_rung is None or value is None:
            return self._tells_nothing
        if not self.is_informative:
            is_good_enough = self._gets_worse or at_rung <= self._worst_finished
            return trial.number in self._latest and is_good_enough
        if self._halving.races and (value <= self._yardstick(trial.optimizer) or self._is_champion(trial, value)):
            return True
        return _is_among_best(self._values[trial.optimizer], self._kept, value) and _is_among_best(
            self._values_of_all, self._kept_of_all, value
        )

    def _is_champion(self, trial: TrialProgress, value: float) -> bool:
        """Return whether a trial is its optimizer's best at the first rung, because some optimizers start slowly."""
        return self._is_first and value <= self._values[trial.optimizer][0]

    def _yardstick(self, optimizer: str) -> float:
        """Return the worst value here with which a trial may still become better than the best finished one.

        It is that trial's value at this rung, with a margin: a difference in only the schedule shows late.
        """
        if self._best is None or self._best.optimizer != optimizer:
            return -inf
        value = self._best.values[self._level]
        if value is None:
            return -inf
        return value + _MARGIN * max(0.0, median(self._values_of_all) - value)

    @cached_property
    def _best(self) -> TrialProgress | None:
        """The best of the finished trials that have a value at this rung."""
        compared = [one for one in self._finished if one.values[self._level] is not None]
        return min(compared, key=last_value, default=None)

    def _worth(self, trial: TrialProgress) -> float | None:
        """Return the value that compares a trial at this rung."""
        value = trial.values[self._level]
        if value is None or not self._halving.races:
            return value
        # a trial that has become worse since is no longer worth its value here
        return max([value, *(later for later in trial.values[self._level + 1 :] if later is not None)])

    # cached on demand: each action makes a new object and needs only one of these
    @cached_property
    def _latest(self) -> set[int]:
        return set(sorted(one.number for one in self._progress)[-self._at_once :])

    @cached_property
    def _values(self) -> dict[str, list[float]]:
        """The values of each optimizer's trials at the rung, ascending."""
        values: dict[str, list[float]] = {}
        for one in self._progress:
            if len(one.values) > self._level and (worth := self._worth(one)) is not None:
                values.setdefault(one.optimizer, []).append(worth)
        return {optimizer: sorted(seen) for optimizer, seen in values.items()}

    @cached_property
    def _values_of_all(self) -> list[float]:
        return sorted(value for values in self._values.values() for value in values)


def last_value(trial: TrialProgress) -> float:
    """Return a trial's value at its last rung; infinity if it has none there."""
    value = trial.values[-1]
    return inf if value is None else value


def _is_among_best(ascending: Sequence[float], share: float, value: float) -> bool:
    return bisect_left(ascending, value) < share * len(ascending)


def gets_worse(finished: Sequence[tuple[float, float]]) -> bool:
    """Return whether most trials get worse from a rung to the end, as with overfitting. Then the best early end worst.

    Args:
        finished: The value at the rung and at the end of each finished trial.
    """
    worse = sum(end > early for early, end in finished)
    return len(finished) >= _LEAST_FINISHED and worse > len(finished) / 2


def ranks_disagree(finished: Sequence[tuple[float, float]]) -> bool:
    """Return whether Spearman's rank correlation between a rung and the end is low.

    Args:
        finished: The value at the rung and at the end of each finished trial.
    """
    if len(finished) < _LEAST_PAIRS or any(len(set(column)) < 2 for column in zip(*finished, strict=True)):
        return False
    early, end = (_ranks(column) for column in zip(*finished, strict=True))
    early, end = early - early.mean(), end - end.mean()
    return float(early @ end / sqrt((early @ early) * (end @ end))) < _LEAST_CORRELATION


@lru_cache(maxsize=8)
def _compare_with_end(finished: tuple[Values, ...], level: int) -> tuple[bool, bool, float]:
    """Compare the values of finished trials at a rung with their final ones.

    The result is cached, because each action needs it and it changes only when a trial finishes.

    Args:
        finished: The values of the finished trials at all rungs.
        level: The rung, counted from 0.

    Returns:
        Whether trials get worse until the end, whether their ranks disagree, and the worst value at the rung.
    """
    both = [(values[level], values[-1]) for values in finished]
    pairs = [(early, end) for early, end in both if early is not None and end is not None]
    return gets_worse(pairs), ranks_disagree(pairs), max((early for early, _ in pairs), default=0.0)


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the number of lower values for each value, shape `(n,)`; equal values share the lowest rank."""
    return np.searchsorted(np.sort(values), values).astype(np.float64)
