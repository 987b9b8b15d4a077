"""Auxiliary runs of a study that was made when they were user attributes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage

from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.storages.legacy import legacy_runs, legacy_steps
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.records import CONFIRMED, LOST_STEPS
from opttune.storages.study_store import StudyStore

SPEC: dict[str, Any] = {"space": "adamw", "mode": "min", "monitor": "val_loss", "seed": 4}
RECIPE = Recipe(Part("sgd", {"lr": 0.1}))
DONE = Outcome(StopReason.COMPLETED, 0.5, 100, 100, 1.0)
DIVERGED = Outcome(StopReason.BLOW_UP, None, 20, 100, 1.0, "it rose")


def trainings(*outcomes: Outcome | None) -> dict[str, Any]:
    stored = [
        {"recipe": recipe, "seed": 6, "run_key": "key", "outcome": None if outcome is None else outcome.to_dict()}
        for recipe, outcome in zip((RECIPE.to_dict(), None), outcomes, strict=False)
    ]
    return {"candidates": [], "seeds": [6], "trainings": stored}


ATTRIBUTES: dict[str, Any] = {
    "opttune.baseline": DONE.to_dict(),
    "opttune.repeats.0": [DONE.to_dict(), DIVERGED.to_dict()],
    CONFIRMED: trainings(DONE, DIVERGED),
    LOST_STEPS: 11,
}


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStorage]:
    with quiet_optuna():
        yield open_storage(None if request.param == "journal" else f"sqlite:///{tmp_path / 'optuna.db'}", tmp_path)


@pytest.fixture
def store(storage: BaseStorage) -> StudyStore:
    store = StudyStore("study", storage, SPEC)
    for name, value in ATTRIBUTES.items():
        store.study.set_user_attr(name, value)
    return store


def test_the_attributes_are_read_as_runs_that_have_ended() -> None:
    runs = legacy_runs(ATTRIBUTES, seed=4)

    assert [(run.auxiliary, run.outcome) for run in runs] == [
        (TrainingJob(None, 4, Role.BASELINE), DONE),
        (TrainingJob(None, 5, Role.REPLICATE, 0), DONE),
        (TrainingJob(None, 6, Role.REPLICATE, 0), DIVERGED),
        (TrainingJob(RECIPE, 6, Role.CONFIRMATION), DONE),
        (TrainingJob(None, 6, Role.CONFIRMATION), DIVERGED),
    ]
    assert {run.state for run in runs} == {"complete"}
    assert len({run.name for run in runs}) == len(runs)
    # trials of the second study are counted from 0
    assert all(run.number < 0 for run in runs)


def test_a_training_of_a_verdict_that_had_not_ended_is_to_be_done_anew() -> None:
    runs = legacy_runs({CONFIRMED: trainings(None, DONE)}, seed=4)

    assert [run.auxiliary for run in runs] == [TrainingJob(None, 6, Role.CONFIRMATION)]


def test_a_study_without_such_attributes_has_no_such_runs() -> None:
    assert legacy_runs({}, seed=4) == []
    assert legacy_steps({}) == 0


def test_their_steps_are_spent_but_those_of_a_verdict(store: StudyStore) -> None:
    assert store.steps_spent == 100 + (100 + 20) + 11


def test_a_trial_has_the_replicates_that_the_attributes_hold(store: StudyStore) -> None:
    store.trials.ask()

    assert store.records()[0].replicates == (DONE, DIVERGED)


def test_what_the_attributes_hold_is_not_trained_again(store: StudyStore) -> None:
    assert store.claim_run(TrainingJob(None, 4, Role.BASELINE, label="SGD(lr=0.1)")) is None
    assert store.claim_run(TrainingJob(RECIPE, 6, Role.CONFIRMATION)) is None
    assert store.claim_run(TrainingJob(RECIPE, 7, Role.CONFIRMATION)) is not None
