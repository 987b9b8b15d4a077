"""What a training tells while it runs, and where that goes: to MLflow, and to whatever shows the search."""

from collections.abc import Mapping, Sequence

from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome
from opttune.runtime.signals import DeferredInterrupts
from opttune.study.config import SearchConfig
from opttune.tracking.training_log import TrainingLog
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord


class ProgressReporter:
    """Is told all that a person may want to see, and shows nothing. Nothing here may block."""

    def search_started(
        self, config: SearchConfig, inspection: ModelInspection, records: Sequence[TrialRecord], steps_spent: int
    ) -> None:
        """Take what is searched, and what an earlier part of the search has done."""

    def training_started(self, record: TrialRecord) -> None:
        """Take that a training is started, or resumed."""

    def steps(self, record: TrialRecord, steps: Sequence[StepRecord]) -> None:
        """Take the numbers of some optimizer steps of a training."""

    def metrics(self, record: TrialRecord, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics that a training's module logged, after a validation."""

    def training_ended(self, record: TrialRecord, outcome: Outcome, steps_spent: int) -> None:
        """Take what came of a training, or where it is paused, and what the whole search has spent."""

    def trial_discarded(self, number: int) -> None:
        """Take that a paused trial will not be resumed."""


class TrainingListener:
    """Passes what a training tells to its log and to the reporter, once, even if a dead worker's steps are repeated.

    Args:
        log: Writes it to MLflow.
        reporter: Shows it.
        interrupts: Defers Ctrl-C meanwhile.
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
