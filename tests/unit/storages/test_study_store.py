import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from opttune.errors import StudyError
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.records import HOLDER
from opttune.storages.study_store import StudyStore

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
    store.save_recipe_of(trial.number, RECIPE, "key")
    store.save_outcome(trial.number, outcome)
    store.tell(trial.number, outcome)
    return trial.number


def test_what_is_told_is_read_back_by_the_next_search(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store = make(storage)
    for outcome in (DONE, DIVERGED, FAILED):
        finish(store, outcome)
    store.note_baseline(DONE)
    store.save_lost_steps(None, 11)
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
    later = make(storage)
    left = [record.number for record in later.reclaim_stale()]
    later.release(1)
    again = later.ask()

    assert left == [1]
    assert again.number == 1
    assert again.suggest_float("lr", 0, 1) == lr
    assert [record.number for record in later.own()] == [1]
    assert not store.is_own(1)


def pause(store: StudyStore, *values: float) -> int:
    """Begin a trial and pause it at a rung for each value."""
    trial = store.ask()
    trial.suggest_float("lr", 0, 1)
    store.save_recipe_of(trial.number, RECIPE, "key")
    for step, value in zip((10, 35), values, strict=False):
        store.save_pause(trial.number, paused(step, value))
    store.release(trial.number)
    return trial.number


def paused(step: int, value: float) -> Outcome:
    return Outcome(StopReason.PAUSED, value, step, 100, 1.0)


def test_a_paused_trial_is_read_back_with_each_of_its_rungs(
    storage: BaseStorage, url: str | None, tmp_path: Path
) -> None:
    pause(make(storage), 0.8, 0.6)
    (record,) = make(open_storage(url, tmp_path)).records()

    assert record.is_paused
    assert record.state == "waiting"
    assert record.pauses == (paused(10, 0.8), paused(35, 0.6))
    assert (record.steps, record.rung, record.value) == (35, 0.35, None)
    assert make(open_storage(url, tmp_path)).steps_spent == 35


def test_a_trial_that_went_on_from_its_pause_is_paid_for_once(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8, 0.6)
    store.claim(0)
    store.save_outcome(0, DONE)
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
    store.claim(0)
    store.save_outcome(0, outranked)
    store.tell(0, outranked)
    trial = store.study.trials[0]

    assert trial.state is TrialState.PRUNED
    assert trial.value == 0.8
    assert store.records()[0].value is None
    assert store.records()[0].rung == 0.1


def test_a_paused_trial_waits_and_is_not_among_those_that_are_asked_for(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.ask()
    store.release(1)

    assert [trial.state for trial in store.study.trials] == [TrialState.WAITING, TrialState.WAITING]
    assert [store.ask().number, store.ask().number] == [1, 2]


def test_of_two_that_claim_a_paused_trial_one_has_it(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store, other = make(storage), make(open_storage(url, tmp_path))
    pause(store, 0.8)

    assert [store.claim(0), other.claim(0), store.claim(0)] == [True, False, False]
    assert store.is_own(0)
    assert not other.is_own(0)


def test_a_trial_that_another_claims_at_this_moment_is_not_abandoned(
    storage: BaseStorage, url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(storage)
    dead, living = store.leases.holder, make(open_storage(url, tmp_path)).leases.holder
    pause(store, 0.8)
    trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("study"), 0)
    reporter = StudyStore("study", open_storage(url, tmp_path), SPEC, is_shared=True)

    def is_gone(holder: str) -> bool:
        # the second of a claim's two writes arrives when the reporter has just seen the first
        storage.set_trial_user_attr(trial_id, HOLDER, living)
        return holder == dead

    monkeypatch.setattr(reporter.leases, "is_gone", is_gone)
    monkeypatch.setattr(reporter.leases, "settle", lambda: None)
    storage.set_trial_state_values(trial_id, TrialState.RUNNING)

    assert reporter.record(0).holder == dead
    assert reporter.reclaim_stale() == []
    assert reporter.record(0).holder == living


def test_a_trial_that_another_claims_while_abandoned_ones_are_taken_over_stays_its(
    storage: BaseStorage, url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(storage)
    reclaim_stale = store.ask().number
    pausing = pause(store, 0.8)
    trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("study"), pausing)
    reporter = StudyStore("study", open_storage(url, tmp_path), SPEC, is_shared=True)
    monkeypatch.setattr(reporter.leases, "is_gone", lambda holder: holder == store.leases.holder)
    # the first of the claim's two writes, while the reporter waits
    monkeypatch.setattr(reporter.leases, "settle", lambda: storage.set_trial_state_values(trial_id, TrialState.RUNNING))

    assert [record.number for record in reporter.reclaim_stale()] == [reclaim_stale]


def test_a_trial_that_has_ended_cannot_be_claimed(storage: BaseStorage) -> None:
    store = make(storage)

    assert not store.claim(finish(store, DONE))


def test_a_trial_that_was_stopped_between_rungs_is_paid_for_up_to_there(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.save_stop(0, 22)
    (stopped,) = store.records()
    spent = store.steps_spent
    store.claim(0)
    store.save_pause(0, paused(35, 0.6))
    (record,) = store.records()

    assert (stopped.steps, stopped.saved_steps, spent) == (10, 22, 22)
    assert (record.steps, record.saved_steps, store.steps_spent) == (35, 35, 35)


def test_what_was_spent_never_falls_where_a_stopped_trial_is_outranked(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.save_stop(0, 22)
    store.claim(0)
    store.save_outcome(0, Outcome(StopReason.OUTRANKED, 0.8, 10, 100, 1.0))
    (record,) = store.records()

    assert (record.steps, record.steps_spent, store.steps_spent) == (10, 22, 22)


def test_steps_without_a_saved_state_are_paid_for_as_well(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.save_lost_steps(0, 7)
    store.save_lost_steps(0, 2)
    store.save_lost_steps(None, 100)

    assert store.steps_spent == 10 + 9 + 100


def test_a_training_that_is_no_trials_is_done_by_one(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store = make(storage)
    before = store.leases.asides()
    claimed = store.leases.claim_aside("baseline"), store.leases.claim_aside("repeat/trial_3")
    meanwhile = store.leases.asides()
    store.leases.release_aside("baseline")

    assert (before, claimed) == (set(), (True, True))
    assert meanwhile == {"baseline", "repeat/trial_3"}
    assert store.leases.asides() == {"repeat/trial_3"}
    # where no two processes share a study, another's can only be that of a dead one
    assert make(open_storage(url, tmp_path)).leases.asides() == set()


def test_a_training_that_is_no_trials_and_that_another_does_is_not_claimed(
    storage: BaseStorage, url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(storage)
    other = StudyStore("study", open_storage(url, tmp_path), SPEC, is_shared=True)
    monkeypatch.setattr(other.leases, "settle", lambda: None)

    assert store.leases.claim_aside("baseline")
    assert not other.leases.claim_aside("baseline")
    store.leases.release_aside("baseline")
    assert other.leases.claim_aside("baseline")


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
