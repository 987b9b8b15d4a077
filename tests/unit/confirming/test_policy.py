"""In which order a verdict is trained and what is kept of it, with an engine that answers at once."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from opttune.confirming.candidates import choose_candidates
from opttune.confirming.policy import ConfirmationPolicy, ConfirmationReporter
from opttune.engines.engine import Done
from opttune.errors import StudyError
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.runtime.loop import TrainingLoop
from opttune.runtime.policy import Spent, Train
from opttune.runtime.progress import ProgressReporter
from opttune.runtime.signals import DeferredInterrupts
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.study_store import StudyStore
from opttune.tracking.study_run import StudyRun, open_study_run
from opttune.training.attempt import Attempt
from opttune.trial_record import TrialRecord
from tests.support.records import PLAN, make_run, record, stored
from tests.support.searches import Tracked, make_database

DONE = Outcome(StopReason.COMPLETED, 0.5, 100, 100, 1.0)
CANDIDATES = choose_candidates(stored([record(0, 0.5)]), top=1)


def make_policy(*seeds: int, **settings: Any) -> ConfirmationPolicy:
    return ConfirmationPolicy(replace(PLAN, **settings), 100, CANDIDATES, seeds)


def next_job(policy: ConfirmationPolicy, *runs: TrialRecord) -> TrainingJob | None:
    action = policy.next_action([], runs, Spent(0))
    assert action is None or isinstance(action, Train)
    return None if action is None else action.job


def test_all_candidates_are_trained_on_a_seed_before_the_next() -> None:
    policy = make_policy(1, 2)
    runs: list[TrialRecord] = []
    while (job := next_job(policy, *runs)) is not None:
        runs.append(make_run(job, DONE, len(runs)))
    jobs = [run.auxiliary for run in runs if run.auxiliary is not None]

    # a verdict that is broken off has whole pairs
    assert [job.seed for job in jobs] == [1, 1, 1, 2, 2, 2]
    assert [job.label for job in jobs] == 2 * ["adamw 1e-3", "your optimizer", "AdamW's default"]
    assert {job.role for job in jobs} == {Role.CONFIRMATION}
    assert jobs[1].recipe is None


def test_those_that_have_ended_or_run_are_passed_over_and_one_that_waits_is_not() -> None:
    policy = make_policy(1)
    first, second, third = policy.jobs
    failed = Outcome(StopReason.FAILED, None, 3, 100, 1.0, "no")

    assert next_job(policy, make_run(first, DONE)) == second
    assert next_job(policy, make_run(first, failed)) == second
    assert next_job(policy, make_run(first, None), make_run(second, DONE)) == third
    assert next_job(policy, make_run(first, None, state="waiting"), make_run(second, None)) == first
    assert next_job(policy, *(make_run(job, None) for job in policy.jobs)) is None


def test_a_run_of_another_role_is_no_training_of_the_verdict() -> None:
    policy = make_policy(1)
    baseline = TrainingJob(None, 1, Role.BASELINE)
    done = [make_run(job, DONE) for job in (policy.jobs[0], policy.jobs[2])]

    assert next_job(policy, make_run(baseline, DONE), *done) == policy.jobs[1]


def test_each_training_that_has_ended_is_one_line_those_of_earlier_calls_first() -> None:
    stream, policy = io.StringIO(), make_policy(1)
    reporter = ConfirmationReporter(Console(file=stream, width=200), policy)
    first, second, third = policy.jobs
    reporter.show_ended([make_run(first, DONE), make_run(second, None)])
    reporter.training_ended(make_run(second, None), Outcome(StopReason.PAUSED, 0.5, 10, 100, 1.0), 0)
    reporter.training_ended(make_run(second, None), Outcome(StopReason.INTERRUPTED, None, 20, 100, 1.0), 0)
    reporter.training_ended(make_run(second, None), replace(DONE, value=0.25), 0)
    reporter.training_ended(make_run(third, None), Outcome(StopReason.FAILED, None, 3, 100, 1.0, "no"), 0)

    assert stream.getvalue().splitlines() == [
        "3 trainings on new seeds",
        "[1 of 3 trainings] adamw 1e-3, seed 1: val_loss 0.5",
        "[2 of 3 trainings] your optimizer, seed 1: val_loss 0.25",
        "[3 of 3 trainings] AdamW's default, seed 1: val_loss failed: no",
    ]


class Engine:
    """Answers at once."""

    slots, trains_here = 1, lambda _: True

    def __init__(self, answer: Callable[[Attempt], Outcome]) -> None:
        self.attempts: list[Attempt] = []
        self._answer = answer
        self._done: Done | None = None

    def submit(self, ticket: int, attempt: Attempt, listener: Any) -> None:
        self.attempts.append(attempt)
        self._done = Done(ticket, self._answer(attempt))

    def next_done(self, seconds: float) -> Done | None:
        done, self._done = self._done, None
        return done

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def train(attempt: Attempt, total: int = 100) -> Outcome:
    reason = StopReason.PAUSED if attempt.until_step else StopReason.COMPLETED
    return Outcome(reason, 0.5, attempt.until_step or total, total, 1.0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[StudyRun]:
    uri = make_database(tmp_path)
    with quiet_optuna():
        run = open_study_run(tracking_uri=uri, study_name="s", spool_dir=tmp_path / "spool", run_id=None)
        yield run
        run.end()
        run.close()


def make_store(folder: Path) -> StudyStore:
    return StudyStore("study", open_storage(None, folder), PLAN.spec)


def confirm(store: StudyStore, run: StudyRun, engine: Any, folder: Path, *seeds: int) -> None:
    policy = make_policy(*seeds, out_dir=folder)
    with DeferredInterrupts() as interrupts:
        loop = TrainingLoop(policy, store, engine, run, ProgressReporter(), interrupts)
        loop.run()
        loop.close()


def test_a_training_is_the_searchs_on_another_seed_from_rung_to_rung(run: StudyRun, tmp_path: Path) -> None:
    store, engine = make_store(tmp_path), Engine(train)
    confirm(store, run, engine, tmp_path, 1)
    first = engine.attempts[0]

    assert (first.seed, dict(first.trainer), first.monitor, first.mode) == (
        1, {**PLAN.trainer, "max_steps": 100}, "val_loss", "min",
    )  # fmt: skip
    assert {attempt.seed for attempt in engine.attempts} == {1}
    assert engine.attempts[-1].until_step is None
    assert [(ended.auxiliary, ended.value) for ended in store.runs()] == [(job, 0.5) for job in make_policy(1).jobs]
    assert store.steps_spent == 0


def test_each_training_is_kept_before_it_begins_and_a_run_that_a_kill_left_open_is_continued(
    run: StudyRun, tmp_path: Path
) -> None:
    store = make_store(tmp_path)

    def dies(attempt: Attempt) -> Outcome:
        if len(store.runs()) == 2:
            raise RuntimeError("killed")
        return train(attempt)

    with pytest.raises(RuntimeError):
        confirm(store, run, Engine(dies), tmp_path, 1)
    left = store.runs()[1]
    key = store.store_of(left).run_key(left.number)
    again = make_store(tmp_path)
    confirm(again, run, Engine(train), tmp_path, 1)
    run.flush()

    assert [ended.value for ended in again.runs()] == [0.5, 0.5, 0.5]
    tracked = Tracked(tmp_path)
    (same,) = (each for each in tracked.confirmations if each.data.tags["opttune.key"] == key)
    assert (left.outcome, left.is_running, same.info.status) == (None, True, "FINISHED")
    assert len(tracked.confirmations) == 3


def test_another_length_is_refused(run: StudyRun, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="now a full training has 70"):
        confirm(make_store(tmp_path), run, Engine(lambda attempt: train(attempt, 70)), tmp_path, 1)
