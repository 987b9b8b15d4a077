"""Who hears of a training while it runs: MLflow and the display, with Ctrl-C held back."""

from collections.abc import Mapping

from opttune.guard.steps import StepRecord
from opttune.runtime.progress import ProgressReporter
from opttune.runtime.signals import DeferredInterrupts
from opttune.tracking.training_log import RunLog


class Listeners:
    """Hands what an attempt tells to the log and to the reporter: once, though a dead worker's steps are done again.

    Args:
        log: Writes it to MLflow.
        reporter: Shows it.
        interrupts: Holds Ctrl-C back meanwhile.
        number: The trial; None for the module as it came.
        steps_done: Optimizer steps after which the training begins.
    """

    def __init__(
        self,
        log: RunLog,
        reporter: ProgressReporter,
        interrupts: DeferredInterrupts,
        number: int | None,
        steps_done: int = 0,
    ) -> None:
        self._log, self._reporter, self._interrupts = log, reporter, interrupts
        self._number = number
        self._last_step = steps_done
        self._heard: set[tuple[int, str]] = set()

    def steps(self, records: list[StepRecord]) -> None:
        """Hand on the numbers of some optimizer steps."""
        new = [record for record in records if record.step > self._last_step]
        if new:
            self._last_step = new[-1].step
            with self._interrupts.held():
                self._log.steps(new)
                self._reporter.steps(self._number, new)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Hand on the metrics that the module logged."""
        new = {name: value for name, value in values.items() if (step, name) not in self._heard}
        if new:
            self._heard |= {(step, name) for name in new}
            with self._interrupts.held():
                self._log.metrics(step, new)
                self._reporter.metrics(self._number, step, new)
