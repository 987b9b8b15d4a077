"""What opttune writes into an Optuna study, and the rows that it reads back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.trial_record import TrialRecord

RECIPE, OUTCOME, STEPS_SPENT, RUN_KEY, RUNGS, TOTAL_STEPS, STOPPED_AT, HOLDER = (
    f"opttune.{name}"
    for name in ("recipe", "outcome", "steps_spent", "mlflow_run_key", "rungs", "total_steps", "stopped_at", "holder")
)
"""User attributes of a trial; `rungs` holds an outcome for each rung at which it was paused.
`holder` also stands with the study, as `holder.<name>`, for a training that is no trial's."""

SPEC, SPACE, BASELINE, PARENT_KEY, ALIVE, REPEATS, AUDIT = (
    f"opttune.{name}" for name in ("spec", "space", "baseline", "mlflow_run_key", "alive", "repeats", "guard_audit")
)
ORIGIN, OUT_DIR, STATUS, ANSWERED, CONFIRMED = (
    f"opttune.{name}" for name in ("origin", "out_dir", "status", "answered", "confirmed")
)
"""User attributes of a study; `repeats.<number>` holds an outcome for each further seed of a finished trial,
`alive.<holder>` counts up while a process trains some of its trials, `origin` is what the last search of it was told,
`confirmed` the trainings of a verdict, `status` how its run in MLflow ended."""

LOST_STEPS = "opttune.lost_steps"
"""User attribute of a trial, and of a study for trainings that are no trial's."""


def read_trial(trial: FrozenTrial) -> TrialRecord:
    """Read a trial back from its study."""
    attributes = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        state=trial.state.name.lower(),
        recipe=Recipe.from_dict(attributes[RECIPE]) if RECIPE in attributes else None,
        outcome=Outcome.from_dict(attributes[OUTCOME]) if OUTCOME in attributes else None,
        steps_spent=attributes.get(STEPS_SPENT),
        pauses=tuple(Outcome.from_dict(pause) for pause in attributes.get(RUNGS, ())),
        stopped_at=attributes.get(STOPPED_AT, 0),
        lost_steps=attributes.get(LOST_STEPS, 0),
        holder=attributes.get(HOLDER, ""),
    )


def read_repeats(attributes: Mapping[str, Any]) -> dict[int, tuple[Outcome, ...]]:
    """Return what finished trials gave on further seeds, by their number, from the attributes of a study."""
    stored = ((name.partition(f"{REPEATS}.")[2], value) for name, value in attributes.items())
    return {int(number): tuple(map(Outcome.from_dict, outcomes)) for number, outcomes in stored if number}


def steps_aside(attributes: Mapping[str, Any]) -> int:
    """Return the optimizer steps of trainings that are no trial's own, from the attributes of a study."""
    again = sum(outcome.steps for outcomes in read_repeats(attributes).values() for outcome in outcomes)
    return again + int(attributes.get(BASELINE, {}).get("steps", 0)) + int(attributes.get(LOST_STEPS, 0))


def optuna_state(outcome: Outcome) -> TrialState:
    """Return how Optuna is told of an outcome: divergence is PRUNED, so that its samplers learn from it."""
    if outcome.reason.counts:
        return TrialState.COMPLETE
    return TrialState.FAIL if outcome.reason is StopReason.FAILED else TrialState.PRUNED


def penalty_value(outcome: Outcome, mode: str, others: Iterable[float] = ()) -> float:
    """Return the finite value that Optuna is told for a run that diverged.

    It is worse than any real value, and the worse the earlier the run died.

    Args:
        outcome: What came of the run.
        mode: `min` or `max`.
        others: The real values so far.
    """
    share = outcome.steps / max(1, outcome.total_steps)
    value = max(1e9, *map(abs, others), 0.0) * (2 - min(share, 0.9))
    return value if mode == "min" else -value


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Name what differs between the search that a study was made for and the one asked for."""
    words = []
    for key in sorted({*stored, *asked}):
        before, now = stored.get(key), asked.get(key)
        if before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            words += [f"{key}.{inner}" for inner in differences(before, now)]
        else:
            words.append(f"{key}: {json.dumps(before)} in the study, {json.dumps(now)} asked for")
    return words
