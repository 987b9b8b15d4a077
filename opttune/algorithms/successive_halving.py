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
  From there, the best goes first.
- Only `most_paused` trials stay paused at a rung, because each has a checkpoint on the disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from opttune.algorithms.observations import best_that_got_worse
from opttune.algorithms.rung_peers import RungPeers, last_value
from opttune.algorithms.rungs import SuccessiveHalving, TrialProgress

_RUNNERS_UP = 2
"""Number of trials besides the best with a look on the second rung of a race, for any budget. Chosen by hand."""


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

    @cache
    def peers(steps: int) -> RungPeers:
        return RungPeers(halving, rungs, progress, steps, at_once)

    payable = sorted(filter(is_payable, progress), key=lambda one: _turn(halving, rungs, one))
    if halving.races and (trial := following(payable, progress)) is not None:
        return Promote(trial.number)
    needed = _to_end(halving, rungs, begun_steps) + _reserve(halving, rungs, progress)
    can_start = may_start and steps_left >= needed
    for trial in payable:
        seen = peers(trial.steps)
        may_be_held = can_start and trial.steps == rungs[0] and seen.is_informative
        if seen.is_promotable(trial) and not (may_be_held and is_held(trial)):
            return Promote(trial.number)
    # without looks, the rest of a budget may pay for one more
    last = [one for one in progress if is_payable(one, with_looks=False)]
    # the reserve is for trials that may be promoted: without any, it must not end a search that has trained nothing
    is_alone = may_start and not last and steps_left >= rungs[-1] - begun_steps
    if can_start or is_alone:
        return Start()
    last.sort(key=lambda one: (not is_payable(one), _turn(halving, rungs, one)))
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
        return -trial.steps, last_value(trial), trial.number
    return float(trial.steps > rungs[0]), last_value(trial), trial.number


def _reserve(halving: SuccessiveHalving, rungs: Sequence[int], progress: Sequence[TrialProgress]) -> int:
    """Return the optimizer steps that a race reserves for the runners-up until a first trial has finished."""
    # in trainings so short that the first two rungs are one, every trial has had its look
    has_second = len(rungs) > len(halving.shares)
    if not (halving.races and has_second) or any(one.has_finished(rungs) for one in progress):
        return 0
    return _RUNNERS_UP * (rungs[1] + halving.look_steps(rungs[1]) - rungs[0]) if progress else 0


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
        paused.sort(key=lambda one: (last_value(one), one.number))
        found += [one.number for one in paused[halving.most_paused :]]
    return found
