"""What a person sees while a search runs: a live display on a terminal, plain lines elsewhere.

All of it goes to standard error; standard output belongs to the result.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from opttune.guard.steps import StepRecord
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.runtime.progress import ProgressReporter
from opttune.study.config import SearchConfig
from opttune.study.selection import best_record, is_better
from opttune.tracking.training_log import short_rate
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord


class PlainReporter(ProgressReporter):
    """One line when the search begins and one for each training that ends.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best: float | None = None

    def search_started(
        self, config: SearchConfig, inspection: ModelInspection, records: Sequence[TrialRecord], steps_spent: int
    ) -> None:
        """Say what is searched, and how far an earlier part of the search got."""
        self._config, self._inspection = config, inspection
        best = best_record(records, config.mode)
        self._best = best.value if best else None
        self._line(
            f"opttune: {inspection.model_name} ({inspection.parameters:,} parameters), "
            f"replacing {inspection.replaced}; {config.monitor} ({config.mode}), space {config.space.name}, "
            f"{config.budget:g} trainings of {inspection.total_steps} steps"
        )
        for warning in filter(None, (config.mode_warning, inspection.not_paused)):
            self._line(f"  warning: {warning}")
        for note in (*inspection.notes, *config.space_notes):
            self._line(f"  {note}")
        if records:
            self._line(f"resuming {config.study_name}: {len(records)} trials, {self._cost(steps_spent)} so far")

    def training_ended(self, record: TrialRecord, outcome: Outcome, steps_spent: int) -> None:
        """Say what came of it."""
        if outcome.reason is StopReason.PAUSED:
            value = "undefined" if outcome.value is None else f"{outcome.value:.5g}"
            what = f"{self._config.monitor} {value} at {outcome.steps / outcome.total_steps:.0%}"
        elif outcome.value is None:
            what = f"{outcome.reason}: {' '.join(outcome.message.split())}"
        else:
            is_best = record.role is Role.TRIAL and is_better(outcome.value, self._best, self._config.mode)
            self._best = outcome.value if is_best else self._best
            what = f"{self._config.monitor} {outcome.value:.5g}{' (best so far)' if is_best else ''}"
        trained = record.recipe or self._inspection.replaced
        self._line(f"[{self._cost(steps_spent)}] {_name(record)}  {what}  {trained}")

    def _cost(self, steps_spent: int) -> str:
        return f"{steps_spent / self._inspection.total_steps:.1f} of {self._config.budget:g} trainings"

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveReporter(PlainReporter):
    """The plain lines, and below them the budget, the best so far, and each training that is running.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[shown]}"))
        self._budget = self._progress.add_task("budget", total=1.0, shown="")
        self._trainings: dict[str, TaskID] = {}
        self._pruned = self._diverged = self._failed = 0

    def __rich__(self) -> Group:
        best = "none yet" if self._best is None else f"{self._best:.5g}"
        failed = f"   failed {self._failed}" if self._failed else ""
        return Group(self._progress, Text(f"best {best}   pruned {self._pruned}   diverged {self._diverged}{failed}"))

    def search_started(
        self, config: SearchConfig, inspection: ModelInspection, records: Sequence[TrialRecord], steps_spent: int
    ) -> None:
        """Begin where an earlier part of the search ended."""
        super().search_started(config, inspection, records, steps_spent)
        self._progress.update(self._budget, total=config.budget * inspection.total_steps)
        for outcome in (record.outcome for record in records):
            self._count(outcome)
        self._spend(steps_spent)

    def training_started(self, record: TrialRecord) -> None:
        """Show that it is trained."""
        name, recipe = _name(record), record.recipe
        if recipe is not None:
            number = record.number if record.auxiliary is None else record.auxiliary.trial
            name = f"#{number} {recipe.optimizer.name} {short_rate(recipe, '.2g')}"
        self._trainings[record.name] = self._progress.add_task(name, total=self._steps_of(record), shown="")

    def steps(self, record: TrialRecord, steps: Sequence[StepRecord]) -> None:
        """Move the bars; rich redraws them a few times a second."""
        last = steps[-1]
        loss = "" if last.loss is None else f"loss {last.loss:.4g}"
        if record.name in self._trainings:
            self._progress.update(self._trainings[record.name], completed=last.step, shown=f"step {last.step}  {loss}")

    def training_ended(self, record: TrialRecord, outcome: Outcome, steps_spent: int) -> None:
        """Count it, and say what came of it."""
        if record.name in self._trainings:
            self._progress.remove_task(self._trainings.pop(record.name))
        if record.role is not Role.REPLICATE:
            self._count(outcome)
        self._spend(steps_spent)
        super().training_ended(record, outcome, steps_spent)

    def trial_discarded(self, number: int) -> None:
        """Count it."""
        self._pruned += 1

    def _steps_of(self, record: TrialRecord) -> int:
        return self._config.step_costs.steps(record.recipe, self._inspection.total_steps)

    def _count(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._diverged += outcome.has_diverged
            self._pruned += outcome.reason in (StopReason.PRUNED, StopReason.OUTRANKED, StopReason.STALL)
            self._failed += outcome.reason in (StopReason.FAILED, StopReason.OUT_OF_MEMORY)

    def _spend(self, steps_spent: int) -> None:
        self._progress.update(self._budget, completed=steps_spent, shown=self._cost(steps_spent))


def _name(record: TrialRecord) -> str:
    match record.auxiliary:
        case None:
            return f"trial {record.number}"
        case TrainingJob(role=Role.REPLICATE, trial=trial):
            return f"trial {trial} on a second seed"
        case job:
            return str(job.role)


@contextmanager
def make_reporter(progress: bool) -> Iterator[ProgressReporter]:
    """Open the display that fits where standard error goes.

    Args:
        progress: Whether to show anything.
    """
    console = Console(file=sys.stderr)
    if not progress:
        yield ProgressReporter()
    elif console.is_terminal:
        reporter = LiveReporter(console)
        with Live(reporter, console=console, refresh_per_second=4, transient=True):
            yield reporter
    else:
        yield PlainReporter(console)
