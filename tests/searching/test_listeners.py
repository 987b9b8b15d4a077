from collections.abc import Mapping
from typing import Any

from opttune.guard.steps import StepRecord
from opttune.searching.interrupts import HeldInterrupts
from opttune.searching.listeners import Listeners


class Hearing:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def steps(self, records: list[StepRecord]) -> None:
        self.heard.append(records)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.heard.append((step, values))


def test_the_log_and_the_watcher_hear_everything() -> None:
    log, watcher = Hearing(), Hearing()
    with HeldInterrupts() as interrupts:
        listeners = Listeners(log, watcher, interrupts)  # type: ignore[arg-type]
        listeners.steps([StepRecord(1, 2.5, 0.1, None)])
        listeners.metrics(1, {"val_loss": 2.25})

    assert log.heard == watcher.heard == [[StepRecord(1, 2.5, 0.1, None)], (1, {"val_loss": 2.25})]
