"""The values that opttune writes into an Optuna study, and the records that it reads back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from opttune.job import TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.trial_record import TrialRecord

RECIPE, OUTCOME, STEPS_SPENT, SECONDS_SPENT, RUN_KEY, RUNGS = (
    f"opttune.{name}" for name in ("recipe", "outcome", "steps_spent", "seconds_spent", "mlflow_run_key", "rungs")
)
TOTAL_STEPS, STOPPED_AT, STOPPED_LOOK, HOLDER, LOST_STEPS, JOB, SOURCE = (
    f"opttune.{name}" for name in ("total_steps", "stopped_at", "stopped_look", "holder", "lost_steps", "job", "source")
)
"""User attributes of a trial: `rungs` has an outcome for each rung at which it paused, `job` the training of an
auxiliary run, and `source` the origin of values that were not trained here."""

SPEC, SPACE, IDENTITY, PARENT_KEY, ALIVE, STEP_SECONDS = (
    f"opttune.{name}" for name in ("spec", "space", "identity", "mlflow_run_key", "alive", "step_seconds")
)
ORIGIN, OUT_DIR, STATUS, ANSWERED, CONFIRMED = (
    f"opttune.{name}" for name in ("origin", "out_dir", "status", "answered", "confirmed")
)
"""User attributes of a study: `identity` is its model and data, `alive.<holder>` counts up while a process trains some
of its trials, `step_seconds` is the time of a step of each optimizer if the budget is in time, `origin` has the
settings of its last search, `confirmed` the candidates and seeds of a verdict, and `status` the final status of its
MLflow run."""

_AUXILIARY = ":auxiliary-runs-"
_UNSAID = {"budget_unit": "steps"}
"""What a search is for where its spec does not say so."""


def auxiliary_study_name(study_name: str, key: str) -> str:
    """Return the name of the study with a search's auxiliary runs.

    Args:
        study_name: Name of the search's own study.
        key: Distinguishes it from an earlier, deleted study of that name.
    """
    return f"{study_name}{_AUXILIARY}{key[:8]}"


def search_names(study_names: Iterable[str]) -> list[str]:
    """Return the names without those of the studies for auxiliary runs."""
    return [name for name in study_names if _AUXILIARY not in name]


def read_trial(trial: FrozenTrial) -> TrialRecord:
    """Read a training back from its study."""
    attributes = trial.user_attrs
    auxiliary = TrainingJob.from_dict(attributes[JOB]) if JOB in attributes else None
    recipe = Recipe.from_dict(attributes[RECIPE]) if RECIPE in attributes else None
    looked_at = Outcome.from_dict(attributes[STOPPED_LOOK]) if STOPPED_LOOK in attributes else None
    pauses = tuple(Outcome.from_dict(pause) for pause in attributes.get(RUNGS, ()))
    return TrialRecord(
        number=trial.number,
        state=trial.state.name.lower(),
        recipe=recipe if auxiliary is None else auxiliary.recipe,
        outcome=Outcome.from_dict(attributes[OUTCOME]) if OUTCOME in attributes else None,
        steps_spent=attributes.get(STEPS_SPENT),
        seconds_spent=attributes.get(SECONDS_SPENT),
        pauses=pauses,
        stopped_at=attributes.get(STOPPED_AT, 0),
        stopped_look=looked_at if looked_at and all(pause.steps < looked_at.steps for pause in pauses) else None,
        lost_steps=attributes.get(LOST_STEPS, 0),
        holder=attributes.get(HOLDER, ""),
        auxiliary=auxiliary,
        source=attributes.get(SOURCE, ""),
    )


def optuna_state(outcome: Outcome) -> TrialState:
    """Return Optuna's state for an outcome; divergence is PRUNED, so that Optuna's samplers learn from it."""
    if outcome.reason.counts:
        return TrialState.COMPLETE
    return TrialState.FAIL if outcome.reason is StopReason.FAILED else TrialState.PRUNED


def penalty_value(outcome: Outcome, mode: str, others: Iterable[float] = ()) -> float:
    """Return the finite value that is reported to Optuna for a diverged run.

    It is worse than any real value, and worse the earlier the run ended.

    Args:
        outcome: The outcome of the run.
        mode: `min` or `max`.
        others: The real values so far.
    """
    share = outcome.steps / max(1, outcome.total_steps)
    value = max(1e9, *map(abs, others), 0.0) * (2 - min(share, 0.9))
    return value if mode == "min" else -value


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return the differences between the stored and the requested search, in words."""
    words = []
    for key in sorted({*stored, *asked}):
        before, now = (spec.get(key, _UNSAID.get(key)) for spec in (stored, asked))
        if before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            words += [f"{key}.{inner}" for inner in differences(before, now)]
        else:
            words.append(f"{key}: {json.dumps(before)} in the study, {json.dumps(now)} asked for")
    return words


def races(attributes: Mapping[str, Any]) -> bool:
    """Return whether a study's trainings are long ones, with rungs for them.

    Args:
        attributes: The user attributes of the study.
    """
    return bool(attributes[SPACE].get("races", False))
