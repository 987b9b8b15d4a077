"""Stored studies made of plain records, for what only reads them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.space.parse import load_space
from opttune.study.config import SearchConfig
from opttune.study.frozen_study import FrozenStudy
from opttune.study.metadata import StudyMetadata
from opttune.trial_record import TrialRecord

PLAN = SearchConfig(load_space("wide"), "val_loss", "min", {"max_steps": 100}, "study", Path("out"), seed=4)
ORIGIN = StudyMetadata(model_name="Net", parameters=12345, replaced="SGD(lr=0.0001)", budget=10.0)
BASELINE = Outcome(StopReason.COMPLETED, 2.5, 100, 100, 1.0)


def record(
    number: int,
    value: float | None = None,
    *,
    optimizer: str = "adamw",
    lr: float | None = None,
    reason: StopReason | None = None,
    steps: int = 100,
    pauses: Sequence[tuple[int, float]] = (),
    schedule: str = "cosine",
) -> TrialRecord:
    """Make a trial that ended; without a value it blew up, or what the reason says."""
    reason = reason or (StopReason.COMPLETED if value is not None else StopReason.BLOW_UP)
    outcome = Outcome(reason, value, steps, 100, 1.0)
    states = {StopReason.COMPLETED: "complete", StopReason.FAILED: "fail"}
    return TrialRecord(
        number,
        states.get(reason, "pruned"),
        Recipe(Part(optimizer, {"lr": lr if lr is not None else 1e-3 * (number + 1)}), Part(schedule)),
        outcome,
        100 * (number + 1),
        tuple(Outcome(StopReason.PAUSED, rung, step, 100, 1.0) for step, rung in pauses),
    )


def run_of(job: TrainingJob, outcome: Outcome | None, number: int = 0, **fields: Any) -> TrialRecord:
    """Make an auxiliary run that ended; one without an outcome is running."""
    state = "running" if outcome is None else "complete"
    return replace(TrialRecord(number, state, job.recipe, outcome, None, auxiliary=job), **fields)


def stored(
    records: Sequence[TrialRecord],
    baseline: Outcome | None = BASELINE,
    *,
    runs: Sequence[TrialRecord] = (),
    mode: str = "min",
    confirmed: dict[str, Any] | None = None,
    **settings: Any,
) -> FrozenStudy:
    """Make a stored study, with a study of Optuna's in memory that holds the same values."""
    if baseline is not None:
        runs = [run_of(TrainingJob(None, PLAN.seed, Role.BASELINE), baseline), *runs]
    origin = replace(ORIGIN, **settings.pop("origin", {}))
    study = optuna.create_study(direction=f"{mode}imize")
    for one in records:
        recipe = one.recipe
        parameters = {"lr": recipe.optimizer["lr"], "optimizer": recipe.optimizer.name} if recipe else {}
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if one.value is not None else optuna.trial.TrialState.PRUNED,
                params=parameters,
                distributions={
                    "lr": optuna.distributions.FloatDistribution(1e-9, 1e3, log=True),
                    "optimizer": optuna.distributions.CategoricalDistribution(
                        ["adamw", "sgd", "muon", "lion", "nadamw"]
                    ),
                }
                if parameters
                else {},
                value=one.value,
            )
        )
    return FrozenStudy(
        config=replace(PLAN, mode=mode, **settings),
        store=_Store(study),  # type: ignore[arg-type]  # what only reads a study needs no more
        total_steps=100,
        records=tuple(records),
        runs=tuple(runs),
        steps_spent=sum(one.steps for one in records) + (baseline.steps if baseline else 0),
        origin=origin,
        run_keys={},
        parent_key=None,
        status="FINISHED",
        confirmed=confirmed or {},
    )


class _Store:
    def __init__(self, study: optuna.Study) -> None:
        self.study = study
