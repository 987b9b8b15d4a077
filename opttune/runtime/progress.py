"""The progress of a running training, and its receivers: MLflow and the display of the search."""

from collections.abc import Mapping, Sequence

from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome
from opttune.runtime.signals import DeferredInterrupts
from opttune.study.answer import Answer
from opttune.study.config import SearchConfig
from opttune.tracking.training_log import TrainingLog
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord


class ProgressReporter:
    """Receives all progress and shows nothing; displays derive from it. No method may block."""

    def search_started(
        self, config: SearchConfig, inspection: ModelInspection, records: Sequence[TrialRecord], steps_spent: int
    ) -> None:
        """Receive the start of the search, with the records of an earlier part."""

    def training_started(self, record: TrialRecord) -> None:
        """Receive the start or the resumption of a training."""

    def steps(self, record: TrialRecord, steps: Sequence[StepRecord]) -> None:
        """Receive the numbers of some optimizer steps of a training."""

    def metrics(self, record: TrialRecord, step: int, values: Mapping[str, float]) -> None:
        """Receive the metrics that a training's module logged, after a validation."""

    def training_ended(self, record: TrialRecord, outcome: Outcome, steps_spent: int) -> None:
        """Receive the outcome of a training, or its pause, and the cost of the search so far."""

    def trial_discarded(self, number: int) -> None:
        """Receive that a paused trial will not be resumed."""

    def search_interrupted(self, answer: Answer, steps_spent: int) -> None:
        """Receive the best result so far of a search that Ctrl-C or SIGTERM has stopped."""


class TrainingListener:
    """Passes the progress of a training to its log and to the reporter, each step once.

    A dead worker's steps may be repeated; they are not passed again.

    Args:
        log: Writes it to MLflow.
        reporter: Shows it.
        interrupts: Defers Ctrl-C during this.
        record: The training.
    """

    def __init__(
        self, log: TrainingLog, reporter: ProgressReporter, interrupts: DeferredInterrupts, record: TrialRecord
    ) -> None:
        self._log, self._reporter, self._interrupts, self._record = log, reporter, interrupts, record
        self._last_step = record.saved_steps
        self._seen: set[tuple[int, str]] = set()

    def steps(self, records: list[StepRecord]) -> None:
        """Pass on the numbers of some optimizer steps."""
        new = [record for record in records if record.step > self._last_step]
        if new:
            self._last_step = new[-1].step
            with self._interrupts.held():
                self._log.steps(new)
                self._reporter.steps(self._record, new)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on the metrics that the module logged."""
        new = {name: value for name, value in values.items() if (step, name) not in self._seen}
        if new:
            self._seen |= {(step, name) for name in new}
            with self._interrupts.held():
                self._log.metrics(step, new)
                self._reporter.metrics(self._record, step, new)
