"""What the trials of a study have shown so far, in a form that the sampler learns from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import NormalDist

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from opttune.outcome import StopReason
from opttune.space.model import Scalar
from opttune.storages.records import OUTCOME, RUNGS

_NORMAL = NormalDist()
_WORST_SCORE = 0.5
"""Bad trials are alike: how bad they are says nothing of where the best lie, which is often beside a cliff."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one trial has shown.

    Attributes:
        parameters: Its Optuna parameters.
        values: The metric at each rung that it has reached, the end of the full length last; lower is better.
            Empty for a trial that the guard stopped before the first.
        failed_at: Share of the full length at which the guard, or a lack of memory, ended it; None where none did.
        diverged_lr: Learning rate at which its loss left all bounds; None where it did not.
    """

    parameters: Mapping[str, Scalar]
    values: tuple[float, ...] = ()
    failed_at: float | None = None
    diverged_lr: float | None = None


def read_observations(trials: Iterable[FrozenTrial], direction: StudyDirection) -> list[Observation]:
    """Return what trials have shown, of this package's searches or of a study of the user's own.

    Trials that failed, or that have no value yet, show nothing.

    Args:
        trials: The trials.
        direction: Whether their value is to fall or to rise.
    """
    sign = 1.0 if direction == StudyDirection.MINIMIZE else -1.0
    found = (_read(trial, sign) for trial in trials if trial.state != TrialState.FAIL)
    return [observations for observations in found if observations is not None]


def _read(trial: FrozenTrial, sign: float) -> Observation | None:
    outcome = trial.user_attrs.get(OUTCOME)
    if outcome is not None and StopReason(outcome["reason"]).is_infeasible:
        failed_at = outcome["steps"] / max(1, outcome["total_steps"])
        rate = outcome.get("stopped_lr") or next((v for name, v in trial.params.items() if name.endswith(".lr")), None)
        return Observation(trial.params, (), failed_at, rate if StopReason(outcome["reason"]).is_divergence else None)
    values = [float(pause["value"]) for pause in trial.user_attrs.get(RUNGS, ())]
    # a trial that was paused and then given up has told its last rung as its value
    is_told = trial.state == TrialState.COMPLETE or (trial.state == TrialState.PRUNED and not values)
    if is_told and trial.value is not None:
        values.append(trial.value)
    values = [value for value in values if isfinite(value)]
    return Observation(trial.params, tuple(sign * value for value in values)) if values else None


def scores(observations: Sequence[Observation]) -> list[float]:
    """Return how good each trial is among all, as a normal quantile: the lower the better.

    Trials are ordered by the value that they have in hand, whatever the rung: those that went on have a better one,
    and one that got worse on the way counts by what it became. Trials that died come last, the earliest at the end.

    Example:
        >>> good, bad, dead = Observation({}, (0.5, 0.2)), Observation({}, (0.4, 0.3)), Observation({}, failed_at=0.02)
        >>> [round(score, 2) for score in scores([good, bad, dead])]
        [-0.97, 0.0, 0.5]
    """
    found = [0.0] * len(observations)
    for rank, index in enumerate(best_first(observations)):
        found[index] = score_of_rank(rank, len(observations))
    return found


def best_first(observations: Sequence[Observation]) -> list[int]:
    """Return the places in `observations` of the trials in the order of their scores, of equals the earlier first."""
    living, dead = {}, {}
    for index, one in enumerate(observations):
        if one.failed_at is None and one.values:
            living[index] = one.values[-1]
        else:
            dead[index] = -(one.failed_at or 0.0)
    return sorted(living, key=living.__getitem__) + sorted(dead, key=dead.__getitem__)


def score_of_rank(rank: int, count: int) -> float:
    """Return the score of the trial that stands at a rank, counted from 0, among so many."""
    return min(_WORST_SCORE, _NORMAL.inv_cdf((rank + 0.5) / count))
