import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from opttune.errors import StudyError
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.records import HOLDER, search_names
from opttune.storages.study_store import StudyStore
from opttune.trial_record import TrialRecord

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
    trial = store.trials.ask()
    trial.suggest_float("lr", 0, 1)
    store.trials.save_start(trial.number, RECIPE, "key")
    end(store, outcome, trial.number)
    return trial.number


def end(store: StudyStore, outcome: Outcome, number: int = 0) -> None:
    store.save_outcome(store.trials.record(number), outcome)
    store.trials.tell(number, outcome)


BASELINE = TrainingJob(None, 0, Role.BASELINE, label="SGD(lr=0.1)")
REPLICATE = TrainingJob(RECIPE, 1, Role.REPLICATE, trial=0)
CONFIRMATION = TrainingJob(RECIPE, 2, Role.CONFIRMATION, label="sgd 0.1")


def run_to_end(store: StudyStore, job: TrainingJob, outcome: Outcome = DONE) -> TrialRecord:
    run = store.claim_run(job)
    assert run is not None
    store.save_outcome(run, outcome)
    store.store_of(run).tell(run.number, outcome)
    return run


def test_what_is_told_is_read_back_by_the_next_search(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store = make(storage)
    for outcome in (DONE, DIVERGED, FAILED):
        finish(store, outcome)
    run_to_end(store, BASELINE)
    again = make(open_storage(url, tmp_path))

    assert [(record.state, record.outcome, record.recipe) for record in again.records()] == [
        ("complete", DONE, RECIPE),
        ("pruned", DIVERGED, RECIPE),
        ("fail", FAILED, RECIPE),
    ]
    assert [record.steps_spent for record in again.records()] == [100, 107, 110]
    assert [(run.auxiliary, run.outcome) for run in again.runs()] == [(BASELINE, DONE)]
    assert again.steps_spent == 100 + 7 + 3 + 100
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
    trial = store.trials.ask()
    lr = trial.suggest_float("lr", 0, 1)
    later = make(storage)
    left = [record.number for record in later.reclaim_stale()]
    later.trials.requeue(1)
    again = later.trials.ask()

    assert left == [1]
    assert again.number == 1
    assert again.suggest_float("lr", 0, 1) == lr
    assert [record.number for record in later.own()] == [1]
    assert not store.trials.is_own(1)


def pause(store: StudyStore, *values: float) -> int:
    """Begin a trial and pause it at a rung for each value."""
    trial = store.trials.ask()
    trial.suggest_float("lr", 0, 1)
    store.trials.save_start(trial.number, RECIPE, "key")
    for step, value in zip((10, 35), values, strict=False):
        store.trials.save_pause(trial.number, paused(step, value))
    store.trials.requeue(trial.number)
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


def test_a_trial_that_resumed_from_its_pause_is_paid_for_once(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8, 0.6)
    store.trials.claim(0)
    end(store, DONE)
    trial = store.study.trials[0]

    assert store.steps_spent == 100
    assert store.records()[0].steps_spent == 100
    assert trial.state is TrialState.COMPLETE
    assert trial.value == DONE.value
    assert trial.intermediate_values == {10: 0.8, 35: 0.6}


def test_a_trial_that_is_not_promoted_is_pruned_with_the_value_of_its_rung(storage: BaseStorage) -> None:
    store = make(storage)
    not_promoted = Outcome(StopReason.OUTRANKED, 0.8, 10, 100, 1.0)
    pause(store, 0.8)
    store.trials.claim(0)
    end(store, not_promoted)
    trial = store.study.trials[0]

    assert trial.state is TrialState.PRUNED
    assert trial.value == 0.8
    assert store.records()[0].value is None
    assert store.records()[0].rung == 0.1


def test_a_paused_trial_waits_and_is_not_among_those_that_are_asked_for(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.trials.ask()
    store.trials.requeue(1)

    assert [trial.state for trial in store.study.trials] == [TrialState.WAITING, TrialState.WAITING]
    assert [store.trials.ask().number, store.trials.ask().number] == [1, 2]


def test_of_two_that_claim_a_paused_trial_one_has_it(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store, other = make(storage), make(open_storage(url, tmp_path))
    pause(store, 0.8)

    assert [store.trials.claim(0), other.trials.claim(0), store.trials.claim(0)] == [True, False, False]
    assert store.trials.is_own(0)
    assert not other.trials.is_own(0)


def test_a_trial_that_another_claims_at_this_moment_is_not_abandoned(
    storage: BaseStorage, url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(storage)
    dead, living = store.leases.holder, make(open_storage(url, tmp_path)).leases.holder
    pause(store, 0.8)
    trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("study"), 0)
    reporter = StudyStore("study", open_storage(url, tmp_path), SPEC, is_shared=True)

    def is_expired(holder: str) -> bool:
        # the second of a claim's two writes arrives when the reporter has just seen the first
        storage.set_trial_user_attr(trial_id, HOLDER, living)
        return holder == dead

    monkeypatch.setattr(reporter.leases, "is_expired", is_expired)
    monkeypatch.setattr(reporter.leases, "settle", lambda: None)
    storage.set_trial_state_values(trial_id, TrialState.RUNNING)

    assert reporter.trials.record(0).holder == dead
    assert reporter.reclaim_stale() == []
    assert reporter.trials.record(0).holder == living


def test_a_trial_that_another_claims_while_abandoned_ones_are_taken_over_stays_its(
    storage: BaseStorage, url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(storage)
    reclaim_stale = store.trials.ask().number
    pausing = pause(store, 0.8)
    trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("study"), pausing)
    reporter = StudyStore("study", open_storage(url, tmp_path), SPEC, is_shared=True)
    monkeypatch.setattr(reporter.leases, "is_expired", lambda holder: holder == store.leases.holder)
    # the first of the claim's two writes, while the reporter waits
    monkeypatch.setattr(reporter.leases, "settle", lambda: storage.set_trial_state_values(trial_id, TrialState.RUNNING))

    assert [record.number for record in reporter.reclaim_stale()] == [reclaim_stale]


def test_a_trial_that_has_ended_cannot_be_claimed(storage: BaseStorage) -> None:
    store = make(storage)

    assert not store.trials.claim(finish(store, DONE))


def test_a_trial_that_was_stopped_between_rungs_is_paid_for_up_to_there(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.trials.save_stop(0, 22)
    (stopped,) = store.records()
    spent = store.steps_spent
    store.trials.claim(0)
    store.trials.save_pause(0, paused(35, 0.6))
    (record,) = store.records()

    assert (stopped.steps, stopped.saved_steps, spent) == (10, 22, 22)
    assert (record.steps, record.saved_steps, store.steps_spent) == (35, 35, 35)


def test_what_was_spent_never_falls_where_a_stopped_trial_is_not_promoted(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.trials.save_stop(0, 22)
    store.trials.claim(0)
    store.save_outcome(store.trials.record(0), Outcome(StopReason.OUTRANKED, 0.8, 10, 100, 1.0))
    (record,) = store.records()

    assert (record.steps, record.steps_spent, store.steps_spent) == (10, 22, 22)


def test_steps_without_a_saved_state_are_paid_for_as_well(storage: BaseStorage) -> None:
    store = make(storage)
    pause(store, 0.8)
    store.trials.save_lost_steps(0, 7)
    store.trials.save_lost_steps(0, 2)
    run = store.claim_run(BASELINE)
    assert run is not None
    store.store_of(run).save_lost_steps(run.number, 100)

    assert store.steps_spent == 10 + 9 + 100


def test_of_two_that_claim_an_auxiliary_run_one_has_it(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store, other = make(storage), make(open_storage(url, tmp_path))
    own = store.claim_run(BASELINE)

    assert own is not None
    assert (own.auxiliary, own.is_running, own.holder) == (BASELINE, True, store.leases.holder)
    assert other.claim_run(BASELINE) is None
    assert store.claim_run(BASELINE) is None
    assert other.claim_run(REPLICATE) is not None
    assert [run.auxiliary for run in other.runs()] == [BASELINE, REPLICATE]
    assert [run.number for run in store.own()] == [own.number]


def test_of_a_run_that_two_processes_add_at_once_the_first_counts(
    storage: BaseStorage, url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = make(storage), make(open_storage(url, tmp_path))
    runs = store._make_run_store()
    add = runs.add

    def add_second(job: TrainingJob) -> None:
        # the other process adds it after this one has seen that it is not there
        other._make_run_store().add(job)
        add(job)

    monkeypatch.setattr(runs, "add", add_second)
    first = store.claim_run(BASELINE)

    assert first is not None
    assert first.number == 0
    assert [run.number for run in store.runs()] == [run.number for run in other.runs()] == [0]
    assert other.claim_run(BASELINE) is None
    run_done = store.store_of(first)
    store.save_outcome(first, DONE)
    run_done.tell(first.number, DONE)
    assert other.claim_run(BASELINE) is None


def test_an_auxiliary_run_that_waits_is_claimed_again_with_its_pauses(
    storage: BaseStorage, url: str | None, tmp_path: Path
) -> None:
    store, other = make(storage), make(open_storage(url, tmp_path))
    run = store.claim_run(REPLICATE)
    assert run is not None
    runs = store.store_of(run)
    runs.save_pause(run.number, paused(10, 0.8))
    runs.requeue(run.number)
    (waiting,) = other.runs()
    resumed = other.claim_run(REPLICATE)

    assert waiting.is_paused
    assert resumed is not None
    assert (resumed.number, resumed.recipe, resumed.pauses) == (run.number, RECIPE, (paused(10, 0.8),))
    assert runs.is_own(run.number) is False


def test_an_auxiliary_run_whose_process_has_died_is_taken_over(storage: BaseStorage) -> None:
    run = make(storage).claim_run(BASELINE)
    later = make(storage)
    taken = later.reclaim_stale()

    assert run is not None
    assert [(one.auxiliary, one.number) for one in taken] == [(BASELINE, run.number)]
    assert [one.auxiliary for one in later.own()] == [BASELINE]


def test_an_auxiliary_run_that_has_ended_cannot_be_claimed(storage: BaseStorage) -> None:
    store = make(storage)
    run_to_end(store, BASELINE)

    assert store.claim_run(BASELINE) is None
    assert make(storage).claim_run(BASELINE) is None


def test_the_search_pays_for_the_baseline_and_replicates_but_not_for_a_verdict(storage: BaseStorage) -> None:
    store = make(storage)
    finish(store, DONE)
    spent = [store.steps_spent]
    for job in (BASELINE, REPLICATE, CONFIRMATION):
        run_to_end(store, job)
        spent.append(store.steps_spent)

    assert spent == [100, 200, 300, 300]
    assert store.steps_seen == 300
    assert [run.steps_spent for run in store.runs()][:2] == [200, 300]


def test_a_trial_has_what_its_replicates_gave_once_they_have_ended(storage: BaseStorage) -> None:
    store = make(storage)
    finish(store, DONE)
    run = store.claim_run(REPLICATE)
    before = store.records()[0].replicates
    assert run is not None
    store.save_outcome(run, DIVERGED)

    assert before == ()
    assert store.records()[0].replicates == (DIVERGED,)


def test_optuna_sees_the_trials_of_the_search_alone(storage: BaseStorage) -> None:
    store = make(storage)
    finish(store, DONE)
    for job in (BASELINE, REPLICATE, CONFIRMATION):
        run_to_end(store, job, Outcome(StopReason.COMPLETED, 0.1, 100, 100, 1.0))

    assert [trial.number for trial in store.study.trials] == [0]
    assert store.study.best_value == DONE.value
    assert [record.number for record in store.records()] == [0]
    assert search_names(optuna.get_all_study_names(storage)) == ["study"]


def test_a_study_without_auxiliary_runs_has_no_second_study(storage: BaseStorage) -> None:
    store = make(storage)
    finish(store, DONE)

    assert store.runs() == []
    assert optuna.get_all_study_names(storage) == ["study"]


def test_bad_input_closes_a_trial(storage: BaseStorage) -> None:
    store = make(storage)
    store.trials.fail(store.trials.ask())

    assert store.study.trials[0].state is TrialState.FAIL
    assert store.steps_spent == 0


def test_the_same_study_is_resumed(storage: BaseStorage) -> None:
    finish(make(storage), DONE)

    assert len(make(storage, space=json.loads(json.dumps(SPEC["space"]))).records()) == 1


@pytest.mark.parametrize("other", [{"monitor": "val_acc"}, {"seed": 1}, {"space": {"sgd": {"lr": [1, 3]}}}])
def test_another_study_is_refused_with_the_difference(storage: BaseStorage, other: dict[str, Any]) -> None:
    make(storage)

    with pytest.raises(StudyError, match=f"made for another search .*{next(iter(other))}.*--study NAME"):
        make(storage, **other)


def test_a_study_that_another_program_made_is_refused(storage: BaseStorage) -> None:
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


@pytest.mark.slow
def test_what_steps_take_is_measured_once_for_a_study(storage: BaseStorage, url: str | None, tmp_path: Path) -> None:
    store = make(storage)
    assert store.step_seconds is None

    assert store.keep_step_seconds({"baseline": 0.01, "soap": 0.03}) == {"baseline": 0.01, "soap": 0.03}
    # a process that has measured longer trains by what the others train by already
    again = make(open_storage(url, tmp_path))
    assert again.keep_step_seconds({"baseline": 0.02, "soap": 0.03}) == {"baseline": 0.01, "soap": 0.03}


def test_that_nothing_could_be_measured_is_kept_too(storage: BaseStorage) -> None:
    store = make(storage)
    store.keep_step_seconds({})

    assert store.step_seconds == {}
    assert store.keep_step_seconds({"soap": 1.0}) == {}
