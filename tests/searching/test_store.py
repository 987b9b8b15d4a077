import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from opttune.errors import InputError, StudyError
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.searching.store import StudyStore, open_storage, quiet_optuna, sole_search
from tests.search_support import command_env

SPEC: dict[str, Any] = {"space": {"sgd": {"lr": [1, 2]}}, "mode": "min", "monitor": "val_loss", "seed": 0}
RECIPE = Recipe(Part("sgd", {"lr": 0.1}))
DONE = Outcome(StopReason.COMPLETED, 0.5, 100, 100, 1.0)
DIVERGED = Outcome(StopReason.NON_FINITE, None, 7, 100, 1.0, "nan")
FAILED = Outcome(StopReason.FAILED, None, 3, 100, 1.0, "no", "Traceback")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


@pytest.fixture(params=["journal", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "journal" else f"sqlite:///{tmp_path / 'optuna.db'}"


@pytest.fixture
def storage(url: str | None, tmp_path: Path) -> BaseStorage:
    return open_storage(url, tmp_path)


def make(storage: BaseStorage, **other: Any) -> StudyStore:
    return StudyStore("study", storage, {**SPEC, **other})


def finish(store: StudyStore, outcome: Outcome) -> int:
    trial = store.ask()
    trial.suggest_float("lr", 0, 1)
    store.note_recipe(trial, RECIPE, "key")
    store.note_outcome(trial.number, outcome)
    store.tell(trial.number, outcome)
    return trial.number


def test_what_is_told_is_read_back_by_the_next_search(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store = make(storage)
    for outcome in (DONE, DIVERGED, FAILED):
        finish(store, outcome)
    store.note_baseline(DONE)
    store.note_lost(11)
    again = make(open_storage(url, tmp_path))

    assert [(record.state, record.outcome, record.recipe) for record in again.records()] == [
        ("complete", DONE, RECIPE),
        ("pruned", DIVERGED, RECIPE),
        ("fail", FAILED, RECIPE),
    ]
    assert [record.steps_spent for record in again.records()] == [100, 107, 110]
    assert again.baseline == DONE
    assert again.steps_spent == 100 + 7 + 3 + 100 + 11
    assert again.parent_key == store.parent_key


def test_a_diverged_trial_is_pruned_with_a_bad_value(storage: BaseStorage) -> None:
    store = make(storage)
    finish(store, DONE)
    number = finish(store, DIVERGED)
    trial = store.study.trials[number]

    assert trial.state is TrialState.PRUNED
    assert trial.value is not None
    assert trial.value > 1e9


def test_a_trial_that_was_left_running_comes_again_with_its_number_and_parameters(storage: BaseStorage) -> None:
    store = make(storage)
    finish(store, DONE)
    trial = store.ask()
    lr = trial.suggest_float("lr", 0, 1)
    left = [each.number for each in make(storage).unfinished()]
    store.take_up(1)
    again = store.ask()

    assert left == [1]
    assert again.number == 1
    assert again.suggest_float("lr", 0, 1) == lr
    assert store.unfinished()[0].state is TrialState.RUNNING


def pause(store: StudyStore, *values: float) -> int:
    """Begin a trial and pause it at a rung for each value."""
    trial = store.ask()
    trial.suggest_float("lr", 0, 1)
    store.note_recipe(trial, RECIPE, "key")
    for step, value in zip((10, 35), values, strict=False):
        store.note_pause(trial.number, paused(step, value))
    return trial.number


def paused(step: int, value: float) -> Outcome:
    return Outcome(StopReason.PAUSED, value, step, 100, 1.0)


def test_a_paused_trial_is_read_back_with_each_of_its_rungs(
    storage: BaseStorage, url: str | None, tmp_path: Path
) -> None:
    pause(make(storage), 0.8, 0.6)
    (record,) = make(open_storage(url, tmp_path)).records()

    assert record.is_paused
    assert record.state == "running"
    assert record.pauses == (paused(10, 0.8), paused(35, 0.6))
    assert (record.steps, record.rung, record.value) == (35, 0.35, None)
    assert make(open_storage(url, tmp_path)).steps_spent == 35


def test_a_trial_that_went_on_from_its_pause_is_paid_for_once(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8, 0.6)
    store.note_outcome(0, DONE)
    store.tell(0, DONE)
    trial = store.study.trials[0]

    assert store.steps_spent == 100
    assert store.records()[0].steps_spent == 100
    assert trial.state is TrialState.COMPLETE
    assert trial.value == DONE.value
    assert trial.intermediate_values == {10: 0.8, 35: 0.6}


def test_an_outranked_trial_is_pruned_with_the_value_of_its_rung(storage: BaseStorage) -> None:
    store = make(storage)
    outranked = Outcome(StopReason.OUTRANKED, 0.8, 10, 100, 1.0)
    pause(store, 0.8)
    store.note_outcome(0, outranked)
    store.tell(0, outranked)
    trial = store.study.trials[0]

    assert trial.state is TrialState.PRUNED
    assert trial.value == 0.8
    assert store.records()[0].value is None
    assert store.records()[0].rung == 0.1


def test_the_next_search_holds_a_paused_trial_back_from_those_that_are_asked_for(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.ask()
    for trial in store.unfinished():
        store.take_up(trial.number)
    store.hold_paused()

    assert [trial.state for trial in store.study.trials] == [TrialState.RUNNING, TrialState.WAITING]
    assert [store.ask().number, store.ask().number] == [1, 2]


def test_bad_input_closes_a_trial(storage: BaseStorage) -> None:
    store = make(storage)
    store.give_up(store.ask())

    assert store.study.trials[0].state is TrialState.FAIL
    assert store.steps_spent == 0


def test_the_same_study_is_gone_on_with(storage: BaseStorage) -> None:
    finish(make(storage), DONE)

    assert len(make(storage, space=json.loads(json.dumps(SPEC["space"]))).records()) == 1


@pytest.mark.parametrize("other", [{"monitor": "val_acc"}, {"seed": 1}, {"space": {"sgd": {"lr": [1, 3]}}}])
def test_another_study_is_refused_with_the_difference(storage: BaseStorage, other: dict[str, Any]) -> None:
    make(storage)

    with pytest.raises(StudyError, match=f"made for another search .*{next(iter(other))}.*--study NAME"):
        make(storage, **other)


def test_a_study_that_somebody_else_made_is_refused(storage: BaseStorage) -> None:
    study = optuna.create_study(study_name="study", storage=storage)
    study.ask()

    with pytest.raises(StudyError, match="was not made by opttune"):
        make(storage)


def test_an_empty_study_of_the_other_direction_is_refused(storage: BaseStorage) -> None:
    optuna.create_study(study_name="study", storage=storage, direction="maximize")

    with pytest.raises(StudyError, match="was not made by opttune"):
        make(storage)


def test_a_study_that_a_killed_search_had_just_made_is_taken_up(storage: BaseStorage) -> None:
    optuna.create_study(study_name="study", storage=storage)
    make(storage)

    with pytest.raises(StudyError, match="seed"):
        make(storage, seed=1)


def test_mode_max_makes_a_study_that_maximizes(storage: BaseStorage) -> None:
    store = make(storage, mode="max")
    finish(store, DIVERGED)

    assert store.study.direction.name == "MAXIMIZE"
    assert (store.study.trials[0].value or 0) < -1e9


def test_a_folder_is_held_by_one_process_at_a_time_and_freed_by_its_death(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from opttune.searching.store import sole_search\n"
        f"with sole_search(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=command_env()) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StudyError, match="another search is running"), sole_search(tmp_path):
            raise AssertionError("not reached")
        other.kill()
    with sole_search(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]


def test_the_lock_that_a_killed_search_left_on_its_journal_costs_a_second(tmp_path: Path) -> None:
    finish(make(open_storage(None, tmp_path)), DONE)
    # as Optuna makes it, held by nobody that lives
    (tmp_path / "study.journal.lock").symlink_to(tmp_path / "study.journal")
    started = time.monotonic()
    finish(make(open_storage(None, tmp_path)), DONE)

    assert time.monotonic() - started < 5
    assert len(make(open_storage(None, tmp_path)).records()) == 2


def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        open_storage("nonsense://here", tmp_path)
