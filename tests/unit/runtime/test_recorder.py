"""The order in which things are written; searches that are killed in between are in test_successive_halving.py."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.guard.rules import Guard
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.runtime.checkpoints import CheckpointStore
from opttune.runtime.policy import SearchPolicy
from opttune.runtime.recorder import TrialRecorder
from opttune.space.auto import ModelFacts
from opttune.space.parse import load_space
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.selection import best_record
from opttune.study.step_costs import StepCosts
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord

TOTAL, RUNG = 100, 10
RECIPE = Recipe(Part("adamw", {"lr": 0.01}))
DONE = Outcome(StopReason.COMPLETED, 0.5, TOTAL, TOTAL, 1.0)
TRIAL = TrialRecord(0, "waiting", RECIPE, None, None)
BASELINE = TrainingJob(None, 0, Role.BASELINE, label="SGD(lr=0.1)")
REPLICATE = TrainingJob(RECIPE, 1, Role.REPLICATE, trial=0)
CONFIRMATION = TrainingJob(RECIPE, 2, Role.CONFIRMATION, label="adamw 1e-2")
AUXILIARY = pytest.mark.parametrize("job", [BASELINE, REPLICATE, CONFIRMATION], ids=lambda job: str(job.role))


class Silent:
    """A parent run, the runs of its trials and a reporter, all of which take everything and say nothing."""

    def child(self, *_: Any, **__: Any) -> "Silent":
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Books:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.config = SearchConfig(
            load_space("adamw"), "val_loss", "min", {"max_steps": TOTAL}, "s", folder, **settings
        )
        self.store = StudyStore("s", open_storage(None, folder), self.config.spec)
        policy = SearchPolicy(
            self.config, ModelInspection("Net", 1, TOTAL, "", has_own_optimizer=False, facts=ModelFacts(1))
        )
        self.files = CheckpointStore(self.config)
        silent: Any = Silent()
        self.recorder = TrialRecorder(self.config, self.store, policy, self.files, silent, silent)

    def begin(self) -> TrialRecord:
        trial = self.store.trials.ask()
        record = replace(self.store.trials.record(trial.number), recipe=RECIPE)
        self.recorder.begin(record)
        return self.store.trials.record(trial.number)

    def begin_run(self, job: TrainingJob) -> TrialRecord:
        run = self.store.claim_run(job)
        assert run is not None
        self.recorder.begin(run)
        return run

    def run(self, job: TrainingJob) -> TrialRecord:
        (run,) = (run for run in self.store.runs() if run.auxiliary == job)
        return run

    def pause(self) -> TrialRecord:
        record = self.begin()
        put(self.files.rung_path(record, RUNG))
        self.recorder.take(record, Outcome(StopReason.PAUSED, 0.5, RUNG, TOTAL, 1.0))
        return self.store.trials.record(record.number)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with quiet_optuna():
        yield Books(tmp_path)


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def interrupted(steps: int) -> Outcome:
    return Outcome(StopReason.INTERRUPTED, None, steps, TOTAL, 1.0)


def test_a_new_trial_trains_to_its_first_rung_from_the_beginning(books: Books) -> None:
    attempt = books.recorder.attempt(books.begin())

    assert (attempt.recipe, attempt.until_step, attempt.resume_from) == (RECIPE, RUNG, None)
    assert attempt.checkpoint == books.files.rung_path(TRIAL, RUNG)
    assert attempt.stop_checkpoint == books.files.interrupt_path(TRIAL)


def test_a_paused_trial_waits_and_resumes_from_its_state(books: Books) -> None:
    record = books.pause()
    attempt = books.recorder.attempt(record)

    assert record.state == "waiting"
    assert attempt.resume_from == books.files.rung_path(TRIAL, RUNG)
    assert attempt.until_step == 35


def test_of_equal_time_a_costly_step_is_done_from_rung_to_rung_until_the_training_is_over(tmp_path: Path) -> None:
    # two steps of it take the time of a full training
    with quiet_optuna():
        books = Books(tmp_path, budget_unit="time", step_costs=StepCosts.of({"baseline": 0.01, "adamw": 0.5}))
        record = books.begin()
        first = books.recorder.attempt(record)
        put(books.files.rung_path(record, RUNG))
        paused = Outcome(StopReason.PAUSED, 0.5, 1, 2, 1.0)
        books.recorder.take(record, books.recorder.counted(record, paused))
        second = books.recorder.attempt(books.store.trials.record(0))

    assert (first.trainer["max_steps"], first.until_step) == (2, 1)
    assert (second.until_step, second.checkpoint) == (None, books.files.final_path(TRIAL))
    assert second.resume_from == books.files.rung_path(TRIAL, RUNG)


def test_of_equal_time_a_run_that_waits_says_what_its_own_optimizer_has_done(tmp_path: Path) -> None:
    ends: list[Outcome] = []
    with quiet_optuna():
        books = Books(tmp_path, budget_unit="time", step_costs=StepCosts.of({"baseline": 0.01, "adamw": 0.02}))
        books.pause()
        books.recorder.log_of(books.store.trials.record(0)).end = lambda outcome, *_: ends.append(outcome)
        books.recorder.close(is_done=False)

    assert [(end.reason, end.steps, end.optimizer_steps) for end in ends] == [(StopReason.INTERRUPTED, 10, 5)]


def test_a_trial_that_was_stopped_with_its_state_saved_loses_nothing(books: Books) -> None:
    record = books.begin()
    put(books.files.interrupt_path(TRIAL))
    books.recorder.take(record, interrupted(7))
    waiting = books.store.trials.record(0)

    assert (waiting.state, waiting.stopped_at, waiting.lost_steps) == ("waiting", 7, 0)
    assert books.recorder.attempt(waiting).resume_from == books.files.interrupt_path(TRIAL)
    assert books.store.trials.ask().number == 0


def test_without_a_saved_state_its_steps_are_counted_as_lost(books: Books) -> None:
    books.pause()
    books.store.trials.claim(0)
    books.recorder.take(books.store.trials.record(0), interrupted(30))

    assert books.store.trials.record(0).lost_steps == 20
    assert books.store.steps_spent == 30


def test_where_a_state_is_gone_the_next_best_one_is_taken(books: Books) -> None:
    books.pause()
    record = replace(books.store.trials.record(0), stopped_at=20)
    without_stop = books.recorder.attempt(record).resume_from
    books.files.drop_pauses(TRIAL)

    assert without_stop == books.files.rung_path(TRIAL, RUNG)
    assert books.recorder.attempt(record).resume_from is None


def test_what_another_process_has_taken_over_is_not_written(books: Books, tmp_path: Path) -> None:
    record = books.begin()
    other = StudyStore("s", open_storage(None, tmp_path), books.config.spec)
    other.reclaim_stale()
    books.recorder.take(record, DONE)

    assert other.trials.record(0).outcome is None
    assert other.trials.is_own(0)


def test_a_trial_whose_outcome_was_noted_is_told_and_not_trained_again(books: Books) -> None:
    books.store.save_outcome(books.begin(), DONE)
    books.recorder.requeue(books.store.own())

    assert books.store.trials.record(0).state == "complete"


def test_at_the_end_of_an_interrupted_search_all_wait_and_at_the_end_of_a_whole_one_none_does(books: Books) -> None:
    books.pause()
    books.begin()
    books.recorder.close(is_done=False)
    waiting = [record.state for record in books.store.records()]
    books.recorder.close(is_done=True)

    assert waiting == ["waiting", "waiting"]
    assert [record.state for record in books.store.records()] == ["pruned", "waiting"]


def test_the_final_checkpoint_of_a_running_trial_is_not_dropped(books: Books) -> None:
    first, second = books.begin(), books.begin()
    for record in (first, second):
        put(books.files.final_path(record))
    books.recorder.take(first, DONE)

    assert books.files.final_path(second).exists()


@AUXILIARY
def test_an_auxiliary_run_pauses_at_a_rung_and_is_resumed_from_its_state(books: Books, job: TrainingJob) -> None:
    books.recorder.take(books.begin(), DONE)
    run = books.begin_run(job)
    first = books.recorder.attempt(run)
    put(books.files.rung_path(run, RUNG))
    books.recorder.take(run, Outcome(StopReason.PAUSED, 0.5, RUNG, TOTAL, 1.0))
    waiting = books.run(job)
    again = books.recorder.attempt(books.begin_run(job))

    assert (first.recipe, first.seed, first.until_step, first.resume_from) == (job.recipe, job.seed, RUNG, None)
    assert first.checkpoint == books.files.rung_path(run, RUNG)
    assert (waiting.state, waiting.steps) == ("waiting", RUNG)
    assert (again.seed, again.until_step, again.resume_from) == (job.seed, 35, books.files.rung_path(run, RUNG))


@AUXILIARY
def test_an_auxiliary_run_that_was_interrupted_loses_nothing(books: Books, job: TrainingJob) -> None:
    run = books.begin_run(job)
    put(books.files.interrupt_path(run))
    books.recorder.take(run, interrupted(7))
    waiting = books.run(job)
    resumed = books.begin_run(job)

    assert (waiting.state, waiting.stopped_at, waiting.lost_steps) == ("waiting", 7, 0)
    assert resumed.number == run.number
    assert books.recorder.attempt(resumed).resume_from == books.files.interrupt_path(run)


@AUXILIARY
def test_an_auxiliary_run_keeps_the_key_of_its_run_and_has_ended_once_its_outcome_is_saved(
    books: Books, job: TrainingJob
) -> None:
    books.recorder.take(books.begin(), DONE)
    run = books.begin_run(job)
    runs = books.store.store_of(run)
    key = runs.run_key(run.number)
    books.recorder.take(run, interrupted(7))
    resumed = books.begin_run(job)
    put(books.files.rung_path(resumed, RUNG))
    same = runs.run_key(run.number)
    books.recorder.take(resumed, DONE)

    assert key is not None
    assert same == key
    assert (books.run(job).outcome, books.run(job).state, books.run(job).lost_steps) == (DONE, "complete", 7)
    assert not books.files.rung_path(resumed, RUNG).exists()
    assert books.store.claim_run(job) is None


@AUXILIARY
def test_an_auxiliary_run_that_a_kill_left_is_requeued(books: Books, tmp_path: Path, job: TrainingJob) -> None:
    books.begin_run(job)
    later = Books(tmp_path)
    later.recorder.requeue(later.store.reclaim_stale())

    assert later.run(job).state == "waiting"
    assert later.begin_run(job).number == 0


def test_the_state_of_an_auxiliary_run_at_its_end_is_not_kept(books: Books) -> None:
    run = replace(books.begin_run(REPLICATE), pauses=(Outcome(StopReason.PAUSED, 0.5, 35, TOTAL, 1.0),))
    trial = replace(books.begin(), pauses=run.pauses)

    assert (books.recorder.attempt(run).until_step, books.recorder.attempt(run).checkpoint) == (None, None)
    assert books.recorder.attempt(trial).checkpoint == books.files.final_path(trial)


def test_a_replicate_may_make_another_trial_the_best(books: Books) -> None:
    values = (0.5, 0.6)
    for lr, value in zip((0.01, 0.02), values, strict=True):
        record = replace(books.begin(), recipe=Recipe(Part("adamw", {"lr": lr})))
        put(books.files.final_path(record))
        books.recorder.take(record, replace(DONE, value=value))
    for number, value in enumerate((9.0, 0.6)):
        run = books.begin_run(replace(REPLICATE, trial=number))
        books.recorder.take(run, replace(DONE, value=value))

    best = best_record(books.store.records(), "min")
    assert best is not None
    assert best.number == 1
    assert books.config.best_recipe_path.read_text().startswith("# trial 1 of the study s")


@pytest.mark.parametrize(("job", "stall"), [(BASELINE, False), (REPLICATE, True), (CONFIRMATION, False)])
def test_a_training_that_learns_nothing_is_stopped_but_where_it_is_to_be_compared(
    tmp_path: Path, job: TrainingJob, stall: bool
) -> None:
    with quiet_optuna():
        books = Books(tmp_path, guard=Guard())
        first = books.begin()
        unknown = books.recorder.attempt(first).guard
        books.recorder.take(first, DONE)
        guard = books.recorder.attempt(books.begin_run(job)).guard
        trial = books.recorder.attempt(books.begin()).guard

    assert guard is not None
    assert guard.stall is stall
    assert trial == Guard()
    # nothing says yet that the loss of this module falls so soon
    assert unknown == Guard(stall=False)
