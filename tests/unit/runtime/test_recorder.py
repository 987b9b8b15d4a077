"""The order in which things are written; whole searches that are killed in between are in test_climbing.py."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.runtime.checkpoints import CheckpointStore
from opttune.runtime.policy import SearchPolicy
from opttune.runtime.recorder import TrialRecorder
from opttune.space.facts import ModelFacts
from opttune.space.parse import load_space
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord

TOTAL, RUNG = 100, 10
RECIPE = Recipe(Part("adamw", {"lr": 0.01}))


class Silent:
    """A parent run, the runs of its trials and a reporter, all of which take everything and say nothing."""

    def child(self, *_: Any, **__: Any) -> "Silent":
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Books:
    def __init__(self, folder: Path) -> None:
        self.config = SearchConfig(load_space("adamw"), "val_loss", "min", {"max_steps": TOTAL}, "s", folder)
        self.store = StudyStore("s", open_storage(None, folder), self.config.spec)
        climb = SearchPolicy(
            self.config, ModelInspection("Net", 1, TOTAL, "", has_own_optimizer=False, facts=ModelFacts(1))
        )
        self.files = CheckpointStore(self.config)
        silent: Any = Silent()
        self.ledger = TrialRecorder(self.config, self.store, climb, self.files, silent, silent)

    def begin(self) -> TrialRecord:
        trial = self.store.ask()
        record = replace(self.store.record(trial.number), recipe=RECIPE)
        self.ledger.begin(record)
        return self.store.record(trial.number)

    def pause(self) -> TrialRecord:
        record = self.begin()
        put(self.files.pause_of(record.number, RUNG))
        self.ledger.take(record, Outcome(StopReason.PAUSED, 0.5, RUNG, TOTAL, 1.0))
        return self.store.record(record.number)


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
    attempt = books.ledger.attempt(books.begin())

    assert (attempt.recipe, attempt.until_step, attempt.resume_from) == (RECIPE, RUNG, None)
    assert attempt.checkpoint == books.files.pause_of(0, RUNG)
    assert attempt.stop_checkpoint == books.files.stop_of(0)


def test_a_paused_trial_waits_and_goes_on_from_its_state(books: Books) -> None:
    record = books.pause()
    attempt = books.ledger.attempt(record)

    assert record.state == "waiting"
    assert attempt.resume_from == books.files.pause_of(0, RUNG)
    assert attempt.until_step == 35


def test_a_trial_that_was_stopped_with_its_state_saved_loses_nothing(books: Books) -> None:
    record = books.begin()
    put(books.files.stop_of(0))
    books.ledger.take(record, interrupted(7))
    waiting = books.store.record(0)

    assert (waiting.state, waiting.stopped_at, waiting.lost_steps) == ("waiting", 7, 0)
    assert books.ledger.attempt(waiting).resume_from == books.files.stop_of(0)
    assert books.store.ask().number == 0


def test_without_a_saved_state_its_steps_are_counted_as_lost(books: Books) -> None:
    books.pause()
    books.store.claim(0)
    books.ledger.take(books.store.record(0), interrupted(30))

    assert books.store.record(0).lost_steps == 20
    assert books.store.steps_spent == 30


def test_where_a_state_is_gone_the_next_best_one_is_taken(books: Books) -> None:
    books.pause()
    record = replace(books.store.record(0), stopped_at=20)
    without_stop = books.ledger.attempt(record).resume_from
    books.files.drop_pauses(0)

    assert without_stop == books.files.pause_of(0, RUNG)
    assert books.ledger.attempt(record).resume_from is None


def test_what_another_process_has_taken_over_is_not_written(books: Books, tmp_path: Path) -> None:
    record = books.begin()
    other = StudyStore("s", open_storage(None, tmp_path), books.config.spec)
    other.reclaim_stale()
    books.ledger.take(record, Outcome(StopReason.COMPLETED, 0.5, TOTAL, TOTAL, 1.0))

    assert other.record(0).outcome is None
    assert other.is_own(0)


def test_a_trial_whose_outcome_was_noted_is_told_and_not_trained_again(books: Books) -> None:
    books.store.save_outcome(books.begin().number, Outcome(StopReason.COMPLETED, 0.5, TOTAL, TOTAL, 1.0))
    books.ledger.take_up(books.store.own())

    assert books.store.record(0).state == "complete"


def test_at_the_end_of_an_interrupted_search_all_wait_and_at_the_end_of_a_whole_one_none_does(books: Books) -> None:
    books.pause()
    books.begin()
    books.ledger.close(is_done=False)
    waiting = [record.state for record in books.store.records()]
    books.ledger.close(is_done=True)

    assert waiting == ["waiting", "waiting"]
    assert [record.state for record in books.store.records()] == ["pruned", "waiting"]


def test_the_end_of_who_trains_just_now_is_not_dropped(books: Books) -> None:
    first, second = books.begin(), books.begin()
    for record in (first, second):
        put(books.files.end_of(record.number))
    books.ledger.take(first, Outcome(StopReason.COMPLETED, 0.5, TOTAL, TOTAL, 1.0))

    assert books.files.end_of(second.number).exists()
