"""Who hears of a training while it runs: MLflow and the display, with Ctrl-C held back."""

from collections.abc import Mapping

from opttune.guard.steps import StepRecord
from opttune.searching.interrupts import HeldInterrupts
from opttune.searching.tracked import RunLog
from opttune.searching.watcher import Watcher


class Listeners:
    """Hands what an attempt tells to the log and to the watcher.

    Args:
        log: Writes it to MLflow.
        watcher: Shows it.
        interrupts: Holds Ctrl-C back meanwhile.
    """

    def __init__(self, log: RunLog, watcher: Watcher, interrupts: HeldInterrupts) -> None:
        self._log = log
        self._watcher = watcher
        self._interrupts = interrupts

    def steps(self, records: list[StepRecord]) -> None:
        """Hand on the numbers of some optimizer steps."""
        with self._interrupts.held():
            self._log.steps(records)
            self._watcher.steps(records)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Hand on the metrics that the module logged."""
        with self._interrupts.held():
            self._log.metrics(step, values)
            self._watcher.metrics(step, values)
