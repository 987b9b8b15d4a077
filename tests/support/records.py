"""Outcomes, trials and stored studies as plain values: the one place where the tests call those constructors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from opttune.confirming.candidates import choose_candidates
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.space.parse import load_space
from opttune.study.config import SearchConfig
from opttune.study.frozen_study import FrozenStudy
from opttune.study.metadata import StudyMetadata
from opttune.trial_record import TrialRecord

TOTAL_STEPS = 100
OPTIMIZERS = ["adamw", "sgd", "muon", "lion", "nadamw"]


def make_outcome(
    value: float | None = None,
    reason: StopReason | None = None,
    *,
    steps: int | None = None,
    total_steps: int = TOTAL_STEPS,
    **fields: Any,
) -> Outcome:
    """Make what a training gave: with a value it ran its full length, without one it blew up, unless a reason is given.

    Without `steps` it ends at the full length.
    """
    reason = reason or (StopReason.COMPLETED if value is not None else StopReason.BLOW_UP)
    return Outcome(reason, value, total_steps if steps is None else steps, total_steps, seconds=1.0, **fields)


def make_pause(value: float | None, steps: int, total_steps: int = TOTAL_STEPS, **fields: Any) -> Outcome:
    """Make what a training gave at a rung."""
    return make_outcome(value, StopReason.PAUSED, steps=steps, total_steps=total_steps, **fields)


def make_trial(
    number: int,
    outcome: Outcome | None = None,
    *,
    recipe: Recipe | None = None,
    pauses: Sequence[Outcome] = (),
    state: str | None = None,
    **fields: Any,
) -> TrialRecord:
    """Make a trial; its state follows from its outcome, and a trial without one waits."""
    return TrialRecord(
        number=number,
        state=state or ("waiting" if outcome is None else _state(outcome.reason)),
        recipe=recipe,
        outcome=outcome,
        steps_spent=fields.pop("steps_spent", None),
        pauses=tuple(pauses),
        **fields,
    )


def _state(reason: StopReason) -> str:
    if reason.counts:
        return "complete"
    return "fail" if reason is StopReason.FAILED else "pruned"


_SPACE = load_space("wide")
# as if the budget had sufficed for this optimizer alone: all of it was tried
SPACE = replace(_SPACE, optimizers=tuple(branch for branch in _SPACE.optimizers if branch.name == "adamw"))
PLAN = SearchConfig(SPACE, "val_loss", "min", {"max_steps": TOTAL_STEPS}, "study", Path("out"), seed=4)
ORIGIN = StudyMetadata(model_name="Net", parameters=12345, replaced="SGD(lr=0.0001)", budget=10.0)
BASELINE = make_outcome(2.5)


def record(
    number: int,
    value: float | None = None,
    *,
    optimizer: str = "adamw",
    lr: float | None = None,
    reason: StopReason | None = None,
    steps: int = TOTAL_STEPS,
    pauses: Sequence[tuple[int, float]] = (),
    schedule: str = "cosine",
) -> TrialRecord:
    """Make a trial that ended, of a study whose trials each cost a full length."""
    lr = 1e-3 * (number + 1) if lr is None else lr
    return make_trial(
        number,
        make_outcome(value, reason, steps=steps),
        recipe=Recipe(Part(optimizer, {"lr": lr}), Part(schedule)),
        pauses=[make_pause(at_rung, step) for step, at_rung in pauses],
        steps_spent=TOTAL_STEPS * (number + 1),
    )


def make_run(job: TrainingJob, outcome: Outcome | None, number: int = 0, **fields: Any) -> TrialRecord:
    """Make an auxiliary run; one without an outcome is running."""
    state = "running" if outcome is None else "complete"
    return make_trial(number, outcome, **{"recipe": job.recipe, "state": state, "auxiliary": job, **fields})


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
    origin = replace(ORIGIN, **settings.pop("origin", {}))
    if baseline is not None:
        runs = [make_run(TrainingJob(None, PLAN.seed, Role.BASELINE), baseline), *runs]
    return FrozenStudy(
        config=replace(PLAN, mode=mode, **settings),
        store=_Store(_optuna_study(records, mode)),  # type: ignore[arg-type]  # what only reads a study needs no more
        total_steps=TOTAL_STEPS,
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


def _optuna_study(records: Sequence[TrialRecord], mode: str) -> optuna.Study:
    study = optuna.create_study(direction=f"{mode}imize")
    distributions = {
        "lr": FloatDistribution(1e-9, 1e3, log=True),
        "optimizer": CategoricalDistribution((*OPTIMIZERS, "own", "own+own")),
    }
    for one in records:
        recipe = one.recipe
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if one.value is not None else TrialState.PRUNED,
                params={"lr": recipe.optimizer.get("lr", 1.0), "optimizer": recipe.optimizer.name} if recipe else {},
                distributions=distributions if recipe else {},
                value=one.value,
            )
        )
    return study


RECORDS = [
    record(0, 0.5, lr=1e-3, pauses=[(10, 2.0), (35, 1.0)]),
    record(1, 0.3, optimizer="muon", lr=2e-2, pauses=[(10, 1.9), (35, 0.9)]),
    record(2, None, lr=1.0, steps=7),
    record(3, 0.0001, optimizer="muon", lr=5e-2, schedule="linear"),
    record(4, None, reason=StopReason.FAILED, steps=3),
]


def full_study(**settings: Any) -> FrozenStudy:
    """Make a study with trials that ended in every way, for the charts."""
    left = record(5, None, lr=1e-4, reason=StopReason.PRUNED, steps=10, pauses=[(10, 3.0)])
    return stored([*RECORDS, left], **settings)


def confirmed_study() -> FrozenStudy:
    """Make the same with a verdict on three seeds."""
    candidates = choose_candidates(full_study(), top=2)
    runs = [
        make_run(
            TrainingJob(candidate.recipe, seed, Role.CONFIRMATION),
            Outcome(StopReason.COMPLETED, 0.1 * place + 0.01 * seed, 100, 100, 1.0),
        )
        for place, candidate in enumerate(candidates)
        for seed in (1, 2, 3)
    ]
    confirmed = {"candidates": [one.to_dict() for one in candidates], "seeds": [1, 2, 3]}
    return full_study(confirmed=confirmed, runs=runs)
