"""Asynchronous successive halving (ASHA) with pause and promote: the choice of the next trial to train and its rung.

Successive halving (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943) trains many configurations briefly,
and only the best of them for longer. ASHA (Li et al. 2020, https://arxiv.org/abs/1810.05934) does so without waiting
for a rung to fill up. If a worker is free, it promotes a paused trial that is among the best seen at its rung, the
highest rung first. If there is none, it starts a new trial. This module is the promoting form of ASHA. A trial that is
not promoted keeps its checkpoint. It is promoted later if worse trials show that it was among the best.

The module departs from ASHA in these points:

- It has two rungs, at 10% and 35% of the length, instead of a geometric series. It has no brackets of several first
  rungs as in Hyperband (Li et al. 2018, https://arxiv.org/abs/1603.06560), because a budget of 20 trainings does not
  fill brackets.
- It keeps the better half and the better third, counting the trial itself and rounding up, instead of the best `1/eta`
  rounded down. The first trial therefore trains to the end at once, and a search has a result early. On the two live
  tasks for development, brackets that keep the best third needed 0.40 of the cost of an Optuna user's 25 trials to
  reach the same result. Promoting the better two thirds and the better half at once needed 0.14 (in part thanks to a
  wider range of learning rates). Early ranks in trainings of 300 steps say little about the winner, but they show which
  trials are infeasible.
- Trials compete within their optimizer, because some optimizers look better early in a training than they are. At the
  second rung they also compete with the trials of all optimizers. Without that, the recorded trainings cost 4% more
  (0.271 instead of 0.261 of TPE's cost, docs/the_search.md).
- A rung pauses hardly any trial if its values do not predict the final ones: `RungPeers.is_informative`. It pauses none
  if all its values are equal or the metric is not defined yet.
- A trial starts only if the budget can train it to the end. The rest of the budget at the end of a search promotes the
  best paused trials.
- Long trainings (`FOR_LONG_TRAININGS`) race, if they can be looked at (`is_raced`): all optimizers have a look on a
  first rung at 2% before the first promotion, and the best trials of each optimizer and of all reach the second rung.
  From there, trials compete by the value to which their trend leads (`expected_value`), the best first.
- Only `most_paused` trials stay paused at a rung, because each has a checkpoint on the disk.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from math import inf, log, sqrt
from statistics import median

import numpy as np
import numpy.typing as npt

from opttune.algorithms.observations import Values, best_that_got_worse, is_equal
from opttune.errors import InputError
from opttune.space.model import RACED_FROM_STEPS

_LEAST_STEPS = 8
"""Minimum optimizer steps of a rung: fewer steps say nothing. Chosen by hand."""
_LOOKED_AT_FROM = 0.05
"""From this share of the length, a look tells trials apart even if their warmup lasts longer."""
_LEAST_FINISHED = 2
"""Minimum number of finished trials for the check of a rung for overfitting. Chosen by hand."""
_MARGIN = 0.1
"""Margin by which a trial may be worse at a rung than the best finished trial was there, as a share of the distance to
the median. Chosen by hand."""
_ONE_TRAINING_BELOW = 2.0
"""A budget below this, in full trainings, pays for one training to the end and for looks."""
_RUNNERS_UP = 2
"""Number of trials besides the best with a look on the second rung of a race, for any budget. Chosen by hand."""
_LEAST_LEVER = 3.0
"""Minimum factor between the steps of two rungs for a trend: between closer rungs, a trend is mostly noise. Chosen by
hand."""
_LEAST_PAIRS = 6
_LEAST_CORRELATION = 0.5
"""From `_LEAST_PAIRS` finished trials, a rung is not informative if its rank correlation with the end is lower. Both
were chosen by hand; no benchmark has varied them."""


@dataclass(frozen=True, slots=True)
class SuccessiveHalving:
    """The rungs, and the shares of promoted trials.

    `shares`, `kept` and `kept_of_all` were chosen by replaying recorded trainings (`benchmarks/search.py replay
    --tables DEVELOP`). A first version of them was also chosen on two live tasks. docs/the_search.md reports on other
    tables and tasks. `most_paused` was chosen by hand.

    Attributes:
        shares: The rungs below the full length, as ascending shares of it, in (0, 1). Without any, each trial trains
            to the end.
        kept: For each rung, the promoted share of an optimizer's trials there, in (0, 1].
        kept_of_all: For each rung, the promoted share of the trials of all optimizers.
        most_paused: The number of trials that stay paused at a rung; worse ones are discarded.
        line_search: Whether an optimizer's trials stay at the first rung during its line search.
        look_share: Length of a look, as a share of the steps so far. A look compares a trial by a copy whose learning
            rate decays from the rung within these steps; 0 compares the values at the rung itself.
        trend: Share of a trial's slope that is expected to last until the end. The slope is over the logarithm of the
            steps, since the previous rung. From the second rung, trials are compared by the resulting prediction; 0
            compares the values at the rung itself.
        races: Whether all optimizers have a look before the first promotion, and the lowest rung goes first.
        first_steps: The lowest optimizer step for a rung.

    Raises:
        InputError: `shares` do not ascend in (0, 1), or another field is out of range.

    Example:
        >>> SuccessiveHalving().steps(300)
        (30, 105, 300)
    """

    shares: tuple[float, ...] = (0.1, 0.35)
    kept: tuple[float, ...] = (0.5, 0.35)
    kept_of_all: tuple[float, ...] = (1.0, 0.35)
    most_paused: int = 5
    line_search: bool = True
    look_share: float = 0.0
    trend: float = 0.0
    races: bool = False
    first_steps: int = 0

    def __post_init__(self) -> None:
        bounds = (0.0, *self.shares, 1.0)
        if any(low >= high for low, high in pairwise(bounds)):
            raise InputError(f"SuccessiveHalving: shares must ascend between 0 and 1, got {self.shares!r}.")
        for name in ("kept", "kept_of_all"):
            kept = getattr(self, name)
            if len(kept) != len(self.shares) or any(not 0 < share <= 1 for share in kept):
                raise InputError(f"SuccessiveHalving: {name} must hold a share in (0, 1] for each rung, got {kept!r}.")
        if self.most_paused < 1:
            raise InputError(f"SuccessiveHalving: most_paused must be at least 1, got {self.most_paused!r}.")

    def steps(self, total_steps: int, warmup_share: float = 0.0) -> tuple[int, ...]:
        """Return the rungs in optimizer steps, the full length last.

        A rung within the warmup moves to the end of the warmup: while learning rates rise, slow starters look bad. If
        trials are compared by looks, it moves no further than to 5% of the length. Rungs that are too short to be
        informative are omitted.

        Args:
            total_steps: The full length in optimizer steps.
            warmup_share: The longest warmup of any recipe, as a share of the length.
        """
        least = min(warmup_share, _LOOKED_AT_FROM) if self.look_share else warmup_share
        steps = {max(round(max(share, least) * total_steps), self.first_steps) for share in self.shares}
        return (*sorted(step for step in steps if _LEAST_STEPS <= step < total_steps), total_steps)

    def look_steps(self, rung: int) -> int:
        """Return the optimizer steps of a look at a rung, during which the rate of the copy decays; 0 for no look.

        Example:
            >>> SuccessiveHalving().look_steps(100), FOR_LONG_TRAININGS.look_steps(100)
            (0, 20)
        """
        return max(1, round(self.look_share * rung)) if self.look_share else 0


FOR_LONG_TRAININGS = SuccessiveHalving(
    shares=(0.02, 0.1, 0.35),
    kept=(0.5, 0.5, 0.35),
    kept_of_all=(0.3, 0.3, 0.2),
    most_paused=10,
    look_share=0.2,
    trend=0.5,
    races=True,
    first_steps=100,
)
"""The rungs of long trainings, chosen on the long tables for development."""


def halving_for(total_steps: int) -> SuccessiveHalving:
    """Return the rungs for trainings of a length.

    Example:
        >>> halving_for(300).steps(300), halving_for(10_000).steps(10_000)
        ((30, 105, 300), (200, 1000, 3500, 10000))
    """
    return FOR_LONG_TRAININGS if total_steps >= RACED_FROM_STEPS else SuccessiveHalving()


def is_raced(total_steps: int, budget: float, can_look: bool) -> bool:
    """Return whether a search races.

    It needs trainings that are long enough for a first look, and looks that decay: without these, the values at 2% of
    the length mislead. On the DeepOBS tables for development, whose constant rates never decay, a race needs 4.95
    trainings to the best 5%, and the search of short trainings 3.48. A budget below 2 pays for one training, so that
    looks of any kind are all that it can choose by: on TaskSet's tables for development, 93% of the races end among
    the best 5%, and 67% of the other searches (`benchmarks/search.py replay`).

    Args:
        total_steps: The full length in optimizer steps.
        budget: Cost of the search in full trainings.
        can_look: Whether a copy of a training can be looked at; several processes cannot.

    Example:
        >>> is_raced(300, 10, True), is_raced(5000, 10, True), is_raced(5000, 10, False), is_raced(5000, 1.5, False)
        (False, True, False, True)
    """
    return total_steps >= RACED_FROM_STEPS and (can_look or budget < _ONE_TRAINING_BELOW)


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """The progress of a trial.

    Attributes:
        number: The trial's number.
        values: Its value at each rung that it has reached; lower is better, None if it is not defined there.
        steps: Its optimizer steps at its last rung or at its end.
        stopped_at: Optimizer step of the checkpoint of its last interruption; 0 if it was not interrupted.
        is_paused: Whether it is paused at its last rung and can be promoted.
        optimizer: The name of its optimizer.
        rate: Its learning rate; None if it has none.
    """

    number: int
    values: Values
    steps: int
    stopped_at: int = 0
    is_paused: bool = False
    optimizer: str = ""
    rate: float | None = None

    def has_finished(self, rungs: Sequence[int]) -> bool:
        """Return whether it has passed every rung, including the first; a given baseline had no look on any."""
        return len(self.values) == len(rungs) and self.values[0] is not None


@dataclass(frozen=True, slots=True)
class Promote:
    """Train a paused trial to its next rung.

    Attributes:
        number: The trial.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start a new trial."""


def next_action(
    halving: SuccessiveHalving,
    rungs: Sequence[int],
    progress: Sequence[TrialProgress],
    steps_left: int,
    *,
    may_start: bool = True,
    begun_steps: int = 0,
    uses_up: bool = True,
    at_once: int = 1,
    is_held: Callable[[TrialProgress], bool] = lambda trial: False,
) -> Promote | Start | None:
    """Return the next action, or None if nothing is left to train or the budget pays for nothing more.

    A trial starts or is promoted only if the budget can train it to the end. Workers ask one after another. An action
    does not wait for running trials.

    Args:
        halving: The shares of promoted trials.
        rungs: The rungs in optimizer steps, the full length last, as `SuccessiveHalving.steps` returns them.
        progress: All trials that have reached a rung or ended.
        steps_left: Remaining optimizer steps of the budget.
        may_start: Whether a new trial may start.
        begun_steps: Finished steps of the trial to start next, if it was interrupted before its first rung.
        uses_up: Whether the rest of the budget promotes the best paused trials once no new trial can start.
        at_once: The number of concurrent trials, any of which may be the latest.
        is_held: Whether a trial stays at the first rung although it qualifies. Called only while the rung is
            informative and a new trial can start.
    """

    def is_payable(one: TrialProgress, with_looks: bool = True) -> bool:
        return one.is_paused and steps_left >= _to_end(halving, rungs, max(one.steps, one.stopped_at), with_looks)

    payable = [one for one in progress if is_payable(one)]
    peers = {steps: RungPeers(halving, rungs, progress, steps, at_once) for steps in {one.steps for one in payable}}
    payable.sort(key=lambda one: _turn(halving, rungs, one))
    if halving.races and (trial := following(payable, progress)) is not None:
        return Promote(trial.number)
    can_start = may_start and steps_left >= _to_end(halving, rungs, begun_steps) + _reserve(halving, rungs, progress)
    for trial in payable:
        seen = peers[trial.steps]
        may_be_held = can_start and trial.steps == rungs[0] and seen.is_informative
        if seen.is_promotable(trial) and not (may_be_held and is_held(trial)):
            return Promote(trial.number)
    # without looks, the rest of a budget may pay for one more
    last = payable or [one for one in progress if is_payable(one, with_looks=False)]
    # the reserve is for trials that may be promoted: without any, it must not end a search that has trained nothing
    if can_start or (may_start and not last and steps_left >= rungs[-1] - begun_steps):
        return Start()
    last.sort(key=lambda one: _turn(halving, rungs, one))
    return Promote(last[0].number) if last and uses_up else None


def _to_end(halving: SuccessiveHalving, rungs: Sequence[int], done: int, with_looks: bool = True) -> int:
    """Return the optimizer steps that a training needs to its end, including those of its looks."""
    ahead = [rung for rung in rungs[:-1] if rung > done]
    return rungs[-1] - done + (sum(map(halving.look_steps, ahead)) if with_looks else 0)


def following(payable: Sequence[TrialProgress], progress: Sequence[TrialProgress]) -> TrialProgress | None:
    """Return the trial that follows an overfitting one: of the same optimizer, with the next lower learning rate.

    If the best trial of a rung is worse there than at the previous one, a lower rate may be better by now, although
    it was behind on all earlier rungs.

    Args:
        payable: The paused trials that the budget can train to the end.
        progress: All trials that have reached a rung or ended.
    """
    for index in best_that_got_worse([one.values for one in progress]):
        worse = progress[index]
        lower = [
            one
            for one in progress
            if one.optimizer == worse.optimizer and one.values and (one.rate or 0.0) < (worse.rate or 0.0)
        ]
        nearest = max(lower, key=lambda one: (one.rate or 0.0, len(one.values)), default=None)
        if nearest is not None and nearest in payable and len(nearest.values) < len(worse.values):
            return nearest
    return None


def _turn(halving: SuccessiveHalving, rungs: Sequence[int], trial: TrialProgress) -> tuple[float, float, int]:
    """Return the sort key of a paused trial.

    The highest rung goes first, and the best trial there. In a race, every deserving trial first has a look on the
    second rung. After that, the best goes first, whatever its rung. Once the rate has decayed, the early value of a
    trial is the least that it is worth. A trial that has become worse since is behind.
    """
    if not halving.races:
        return -trial.steps, _last_value(trial), trial.number
    worth = expected_value(halving, rungs, trial.values)
    return float(trial.steps > rungs[0]), inf if worth is None else worth, trial.number


def _reserve(halving: SuccessiveHalving, rungs: Sequence[int], progress: Sequence[TrialProgress]) -> int:
    """Return the optimizer steps that a race reserves for the runners-up until a first trial has finished."""
    if not halving.races or len(rungs) < 3 or any(one.has_finished(rungs) for one in progress):
        return 0
    return _RUNNERS_UP * (rungs[1] + halving.look_steps(rungs[1]) - rungs[0]) if progress else 0


def expected_value(halving: SuccessiveHalving, rungs: Sequence[int], values: Values) -> float | None:
    """Return the expected final value of a trial: its last value plus its trend until the end.

    Of two trials that are close at a rung, the one that falls faster is ahead more often in the end.

    Args:
        halving: The settings, with the share of the slope that lasts.
        rungs: The rungs in optimizer steps, the full length last.
        values: The trial's value at each rung that it has reached.

    Example:
        >>> expected_value(FOR_LONG_TRAININGS, (10, 100, 1000), (3.0, 2.0))
        1.5
    """
    reached = len(values)
    if not halving.trend or not 1 < reached < len(rungs):
        return values[-1]
    before, value = values[-2:]
    lever = rungs[reached - 1] / rungs[reached - 2]
    if before is None or value is None or lever < _LEAST_LEVER:
        return value
    slope = (value - before) / log(lever)
    return value + halving.trend * slope * log(rungs[-1] / rungs[reached - 1])


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
        self._halving, self._rungs = halving, rungs
        self._progress, self._at_once = progress, at_once
        finished = tuple([one.values for one in progress if len(one.values) == len(rungs)])
        self._gets_worse, self._disagree, self._worst_finished = _compare_with_end(finished, level)
        self._tells_nothing = is_equal([one.values[level] for one in progress if len(one.values) > level])
        # if short rungs were omitted, the shares of the last rungs apply
        from_end = level - (len(rungs) - 1)
        self._kept, self._kept_of_all = halving.kept[from_end], halving.kept_of_all[from_end]

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
        return self._level == 0 and value <= self._values[trial.optimizer][0]

    def _yardstick(self, optimizer: str) -> float:
        """Return the worst value here with which a trial may still become better than the best finished one.

        It is that trial's value at this rung, with a margin: a difference in only the schedule shows late.
        """
        finished = [one for one in self._progress if len(one.values) == len(self._rungs)]
        best = min(finished, key=_last_value, default=None)
        if best is None or best.optimizer != optimizer:
            return -inf
        value = expected_value(self._halving, self._rungs, best.values[: self._level + 1])
        if value is None:
            return -inf
        return value + _MARGIN * max(0.0, median(self._values_of_all) - value)

    def _worth(self, trial: TrialProgress) -> float | None:
        """Return the value that compares a trial at this rung."""
        reached = trial.values[: self._level + 1]
        worth, value = expected_value(self._halving, self._rungs, reached), reached[-1]
        if worth is None or value is None or not self._halving.races:
            return worth
        # a trial that has become worse since is no longer worth its value here
        return max([worth, *(later for later in trial.values[len(reached) :] if later is not None and later > value)])

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


def _last_value(trial: TrialProgress) -> float:
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


def to_discard(
    halving: SuccessiveHalving, rungs: Sequence[int], progress: Sequence[TrialProgress], at_once: int = 1
) -> list[int]:
    """Return the paused trials that rank too low at their rung to keep their checkpoints, the worst last.

    Args:
        halving: The settings, with the number of trials that stay paused at a rung.
        rungs: The rungs in optimizer steps, the full length last.
        progress: All trials that have reached a rung or ended.
        at_once: The number of concurrent trials.
    """
    found = []
    for rung in rungs[:-1]:
        paused = [one for one in progress if one.is_paused and one.steps == rung]
        peers = RungPeers(halving, rungs, progress, rung, at_once) if len(paused) > halving.most_paused else None
        paused = [one for one in paused if peers is not None and not peers.is_promotable(one)]
        paused.sort(key=lambda one: (_last_value(one), one.number))
        found += [one.number for one in paused[halving.most_paused :]]
    return found


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the number of lower values for each value, shape `(n,)`; equal values share the lowest rank."""
    return np.searchsorted(np.sort(values), values).astype(np.float64)
