"""Read the result of an Optuna trial in the form for the sampler."""

from math import isfinite

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from opttune.algorithms.observations import Observation
from opttune.outcome import Outcome, StopReason
from opttune.storages.records import OUTCOME, RUNGS


def read_observation(trial: FrozenTrial, direction: StudyDirection) -> Observation | None:
    """Return the result of a trial, from an opttune search or a user's own study.

    Args:
        trial: The trial.
        direction: Whether its value is minimized or maximized.

    Returns:
        The result; None for a trial that failed, or that has no value yet.
    """
    if trial.state == TrialState.FAIL:
        return None
    outcome = trial.user_attrs.get(OUTCOME)
    if outcome is not None and StopReason(outcome["reason"]).is_infeasible:
        failed_at = outcome["steps"] / max(1, outcome["total_steps"])
        rates = (value for name, value in trial.params.items() if name.endswith((".lr", ".lr_factor")))
        rate = outcome.get("stopped_lr") or next(rates, None)
        return Observation(trial.params, (), failed_at, rate if Outcome.from_dict(outcome).has_diverged else None)
    values: list[float | None] = [pause["value"] for pause in trial.user_attrs.get(RUNGS, ())]
    # a paused and then discarded trial was reported to Optuna with the value of its last rung
    is_told = trial.state == TrialState.COMPLETE or (trial.state == TrialState.PRUNED and not values)
    if is_told and trial.value is not None:
        values.append(trial.value)
    sign = 1.0 if direction == StudyDirection.MINIMIZE else -1.0
    defined = [None if value is None or not isfinite(value) else sign * value for value in values]
    while defined and defined[-1] is None:
        defined.pop()
    return Observation(trial.params, tuple(defined)) if defined else None
