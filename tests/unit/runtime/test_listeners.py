from collections.abc import Mapping
from typing import Any

from opttune.guard.steps import StepRecord
from opttune.runtime.listeners import Listeners
from opttune.runtime.signals import DeferredInterrupts


class Log:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def steps(self, records: list[StepRecord]) -> None:
        self.heard.append(records)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.heard.append((step, values))


class Watching:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def steps(self, number: int | None, records: list[StepRecord]) -> None:
        self.heard.append((number, records))

    def metrics(self, number: int | None, step: int, values: Mapping[str, float]) -> None:
        self.heard.append((number, step, values))


def step(number: int) -> StepRecord:
    return StepRecord(number, 2.5, 0.1, None)


def make(steps_done: int = 0) -> tuple[Listeners, Log, Watching]:
    log, reporter = Log(), Watching()
    return Listeners(log, reporter, DeferredInterrupts(), 3, steps_done), log, reporter  # type: ignore[arg-type]


def test_the_log_and_the_watcher_hear_everything() -> None:
    listeners, log, reporter = make()
    listeners.steps([step(1)])
    listeners.metrics(1, {"val_loss": 2.25})

    assert log.heard == [[step(1)], (1, {"val_loss": 2.25})]
    assert reporter.heard == [(3, [step(1)]), (3, 1, {"val_loss": 2.25})]


def test_steps_that_a_dead_worker_had_told_are_not_told_again() -> None:
    listeners, log, _ = make()
    listeners.steps([step(1), step(2)])
    listeners.metrics(2, {"val_loss": 2.25})
    listeners.steps([step(1)])
    listeners.steps([step(2), step(3)])
    listeners.metrics(2, {"val_loss": 2.25, "train_loss": 1.5})

    assert log.heard == [[step(1), step(2)], (2, {"val_loss": 2.25}), [step(3)], (2, {"train_loss": 1.5})]


def test_steps_before_a_resumed_training_are_not_told_again() -> None:
    listeners, log, _ = make(steps_done=2)
    listeners.steps([step(2), step(3)])

    assert log.heard == [[step(3)]]
