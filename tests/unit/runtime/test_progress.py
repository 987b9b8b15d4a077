"""What a training tells, and which objects are told."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from opttune.guard.steps import StepRecord
from opttune.runtime.display import LiveReporter, PlainReporter
from opttune.runtime.progress import ProgressReporter, TrainingListener
from opttune.runtime.signals import DeferredInterrupts
from opttune.trial_record import TrialRecord


class Log:
    def __init__(self) -> None:
        self.received: list[Any] = []

    def steps(self, records: list[StepRecord]) -> None:
        self.received.append(records)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.received.append((step, values))


class Reporter(ProgressReporter):
    def __init__(self) -> None:
        self.received: list[Any] = []

    def steps(self, record: TrialRecord, steps: Sequence[StepRecord]) -> None:
        self.received.append((record, steps))

    def metrics(self, record: TrialRecord, step: int, values: Mapping[str, float]) -> None:
        self.received.append((record, step, values))


def step(number: int) -> StepRecord:
    return StepRecord(number, 2.5, 0.1, None)


def training(saved_steps: int = 0) -> TrialRecord:
    return TrialRecord(3, "running", None, None, None, stopped_at=saved_steps)


def make(saved_steps: int = 0) -> tuple[TrainingListener, Log, Reporter]:
    log, reporter = Log(), Reporter()
    listener = TrainingListener(log, reporter, DeferredInterrupts(), training(saved_steps))  # type: ignore[arg-type]
    return listener, log, reporter


def test_the_log_and_the_reporter_receive_everything() -> None:
    listener, log, reporter = make()
    listener.steps([step(1)])
    listener.metrics(1, {"val_loss": 2.25})

    assert log.received == [[step(1)], (1, {"val_loss": 2.25})]
    assert reporter.received == [(training(), [step(1)]), (training(), 1, {"val_loss": 2.25})]


def test_steps_that_a_dead_worker_had_told_are_not_told_again() -> None:
    listener, log, _ = make()
    listener.steps([step(1), step(2)])
    listener.metrics(2, {"val_loss": 2.25})
    listener.steps([step(1)])
    listener.steps([step(2), step(3)])
    listener.metrics(2, {"val_loss": 2.25, "train_loss": 1.5})

    assert log.received == [[step(1), step(2)], (2, {"val_loss": 2.25}), [step(3)], (2, {"train_loss": 1.5})]


def test_steps_before_a_resumed_training_are_not_told_again() -> None:
    listener, log, _ = make(saved_steps=2)
    listener.steps([step(2), step(3)])

    assert log.received == [[step(3)]]


def test_every_display_is_told_all_that_a_reporter_is_told() -> None:
    for name, told in inspect.getmembers(ProgressReporter, inspect.isfunction):
        if name.startswith("_"):
            continue
        for display in (PlainReporter, LiveReporter):
            assert inspect.signature(getattr(display, name)) == inspect.signature(told), f"{display}.{name}"
