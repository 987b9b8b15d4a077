from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opttune.engines.inline import InlineEngine, train_here
from opttune.engines.memory import GarbageCollector, rss_bytes
from opttune.errors import MonitorError, OpttuneError
from opttune.outcome import Outcome, StopReason
from opttune.space.sample import default_recipe
from opttune.training.attempt import Attempt
from opttune.training.workload import Workload
from tests.support.listeners import RecordingListener
from tests.support.search_models import Classifier, FailsAtOnce, loaders
from tests.support.searches import TINY, make_space

RECIPE = default_recipe(make_space(TINY))


def train(model: Any, attempt: Attempt, listener: RecordingListener | None = None) -> Outcome | OpttuneError:
    engine = InlineEngine(train_here(Workload(model, loaders)))
    engine.submit(7, attempt, listener or RecordingListener())
    done = engine.next_done(0.0)
    assert done is not None
    assert done.job == 7
    assert engine.next_done(0.0) is None
    return done.result


def outcome_of(model: Any, attempt: Attempt, listener: RecordingListener | None = None) -> Outcome:
    result = train(model, attempt, listener)
    assert isinstance(result, Outcome)
    return result


FIVE = Attempt(RECIPE, "val_loss", 0, {"max_steps": 5})


def test_an_attempt_is_trained_in_this_process_and_reported_step_by_step(tmp_path: Path) -> None:
    listener = RecordingListener()
    outcome = outcome_of(Classifier, replace(FIVE, checkpoint=tmp_path / "state.ckpt"), listener)

    assert outcome.reason is StopReason.COMPLETED
    assert listener.step_numbers == [1, 2, 3, 4, 5]
    assert {"val_loss", "val_acc"} <= {name for _, values in listener.reports for name in values}
    assert torch.load(tmp_path / "state.ckpt", weights_only=True)["global_step"] == 5


def test_an_engine_trains_one_attempt_after_another_each_from_the_start() -> None:
    assert outcome_of(Classifier, FIVE).value == outcome_of(Classifier, FIVE).value


def test_an_error_in_the_users_code_is_an_outcome() -> None:
    outcome = outcome_of(FailsAtOnce, FIVE)

    assert outcome.reason is StopReason.FAILED
    assert "never any step" in outcome.message
    assert "training_step" in outcome.traceback


def test_bad_input_is_the_error_that_it_is() -> None:
    assert isinstance(train(Classifier, replace(FIVE, monitor="val_lost")), MonitorError)


def test_what_was_not_begun_is_forgotten() -> None:
    engine = InlineEngine(train_here(Workload(FailsAtOnce, loaders)))
    engine.submit(0, FIVE, RecordingListener())
    engine.close()

    assert engine.next_done(0.0) is None


MEGABYTE = 2**20


def test_what_is_held_counts_and_what_is_given_back_does_not() -> None:
    before = rss_bytes()
    held = torch.ones(100 * MEGABYTE // 4)
    meanwhile = rss_bytes()
    del held

    assert meanwhile - before > 90 * MEGABYTE
    assert rss_bytes() < meanwhile - 90 * MEGABYTE


class Holding:
    """Two that hold one another, and much memory."""

    def __init__(self) -> None:
        self.other = self
        self.held = torch.ones(100 * MEGABYTE // 4)


@pytest.mark.slow
def test_what_holds_itself_is_given_back() -> None:
    collector = GarbageCollector()
    before = rss_bytes()
    for _ in range(5):
        Holding()
        collector.collect()

    assert rss_bytes() < before + 50 * MEGABYTE
