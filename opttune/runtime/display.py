"""The display of a running search: a live table on a terminal, plain lines elsewhere.

All of it goes to standard error; standard output belongs to the result.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from opttune.guard.steps import StepRecord
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.runtime.capture import captured, is_terminal
from opttune.runtime.live_table import LiveTable, about
from opttune.runtime.progress import ProgressReporter
from opttune.study.answer import Answer
from opttune.study.config import SearchConfig
from opttune.study.selection import best_record, is_better
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord


class PlainReporter(ProgressReporter):
    """Prints three lines when the search starts, and one for each training that ends or reaches a rung.

    Args:
        console: The console to write to.
        verbose: Whether to give the reasons for the choice of the space.
    """

    def __init__(self, console: Console, verbose: bool = False) -> None:
        self._console, self._verbose = console, verbose
        self._best: float | None = None

    def search_started(
        self, config: SearchConfig, inspection: ModelInspection, records: Sequence[TrialRecord], steps_spent: int
    ) -> None:
        """Print the plan, and the progress of an earlier part of the search."""
        self._config, self._inspection = config, inspection
        best = best_record(records, config.mode)
        self._best = best.value if best else None
        for line in _plan(config, inspection, steps_spent, self._verbose):
            self._line(line)
        for warning in filter(None, (config.mode_warning, inspection.not_paused)):
            self._line(f"  warning: {warning}")
        for note in (*inspection.notes, *(config.space_notes if self._verbose else config.space_warnings)):
            self._line(f"  {note}")
        if records:
            count = "1 trial" if len(records) == 1 else f"{len(records)} trials"
            self._line(
                f"resuming {config.study_name}: {count}, {self._cost(steps_spent)} so far, in the space that was "
                "chosen for it (--study NAME starts another study, with a new space)"
            )

    def training_ended(self, record: TrialRecord, outcome: Outcome, steps_spent: int) -> None:
        """Print the outcome of a training."""
        if outcome.reason is StopReason.PAUSED:
            value = "undefined" if outcome.value is None else f"{outcome.value:.5g}"
            what = f"{self._config.monitor} {value} at {outcome.steps / outcome.total_steps:.0%}"
        elif outcome.value is None:
            what = outcome.words
        else:
            is_best = record.role is Role.TRIAL and is_better(outcome.value, self._best, self._config.mode)
            self._best = outcome.value if is_best else self._best
            what = f"{self._config.monitor} {outcome.value:.5g}{' (best so far)' if is_best else ''}"
        trained = record.recipe or self._inspection.replaced
        self._line(f"[{self._cost(steps_spent)}] {_name(record)}  {what}  {trained}")

    def search_interrupted(self, answer: Answer, steps_spent: int) -> None:
        """Print what has been found so far, and where it is."""
        found = answer.lines[0] if answer.lines else "no trial has a final value yet"
        self._line(f"stopped after {self._cost(steps_spent)}: {found}; the study is in {self._config.out_dir}")

    def _cost(self, steps_spent: int) -> str:
        return f"{steps_spent / self._inspection.total_steps:.1f} of {self._config.budget:g} trainings"

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveReporter(PlainReporter):
    """Shows the live table, and above it the first lines and one line for each failed training.

    Args:
        console: The terminal.
        live: Draws the table.
        verbose: Whether to give the reasons for the choice of the space, and a line for each training.
    """

    def __init__(self, console: Console, live: Live, verbose: bool = False) -> None:
        super().__init__(console, verbose)
        self._live = live

    def search_started(
        self, config: SearchConfig, inspection: ModelInspection, records: Sequence[TrialRecord], steps_spent: int
    ) -> None:
        """Start where an earlier part of the search ended."""
        super().search_started(config, inspection, records, steps_spent)
        full = inspection.total_steps
        self._table = LiveTable(
            config.monitor, config.mode, full, config.budget, inspection.replaced,
            lambda recipe: config.step_costs.steps(recipe, full),
        )  # fmt: skip
        self._table.begin(records, steps_spent)
        self._live.update(self._table)

    def training_started(self, record: TrialRecord) -> None:
        """Show that a training has started."""
        self._table.start(record)

    def steps(self, record: TrialRecord, steps: Sequence[StepRecord]) -> None:
        """Show the latest step; the table is drawn a few times per second."""
        self._table.step(record, steps[-1])

    def metrics(self, record: TrialRecord, step: int, values: Mapping[str, float]) -> None:
        """Show the monitored metric."""
        self._table.measure(record, values)

    def training_ended(self, record: TrialRecord, outcome: Outcome, steps_spent: int) -> None:
        """Show the outcome; the message of a failure goes above the table, which has no room for it."""
        self._table.end(record, outcome)
        self._table.spend(steps_spent)
        if self._verbose or outcome.reason in (StopReason.FAILED, StopReason.OUT_OF_MEMORY):
            super().training_ended(record, outcome, steps_spent)

    def trial_discarded(self, number: int) -> None:
        """Show that a trial is discarded."""
        self._table.discard(number)


def expected_time(config: SearchConfig, inspection: ModelInspection, steps_spent: int = 0) -> str:
    """Return the expected time of a search, or of its rest, in words; empty if its inspection shows none.

    Each rung starts a training anew. Some trials reach all rungs, more of them the first alone: for each full training
    that the budget pays, about as many start as there are rungs.
    """
    trainings = config.budget - steps_spent / inspection.total_steps
    if inspection.seconds is None or trainings <= 0:
        return ""
    can_pause = config.pauses and not inspection.not_paused
    starts = len(config.rungs(inspection.total_steps)) if can_pause else 1
    seconds = inspection.seconds + starts * (inspection.start_seconds or 0.0)
    return about(trainings * seconds / config.workers) + (" for the rest" if steps_spent else "")


def _plan(config: SearchConfig, inspection: ModelInspection, steps_spent: int, verbose: bool) -> tuple[str, str, str]:
    """Return the plan in three lines: the module, the replacement of its optimizer, and the cost."""
    optimizers = ", ".join(branch.name for branch in config.space.optimizers)
    why = "" if verbose or not config.space_notes else "; --verbose says why"
    steps, budget = inspection.total_steps, config.budget
    at_a_time = f", {config.workers} at a time" if config.workers > 1 else ""
    time = expected_time(config, inspection, steps_spent)
    expected = f", {time}" if time else ""
    weights = ", weights of the given instance" if inspection.is_instance else ""
    return (
        f"opttune: {inspection.model_name} ({inspection.parameters:,} parameters{weights}), "
        f"{config.monitor} ({config.mode}), "
        f"study {config.study_name}",
        f"replaces {inspection.replaced} by recipes of {optimizers} (space {config.space.name}{why})",
        f"plan: {budget:g} trainings of {steps:,} steps, {int(budget * steps):,} in all{at_a_time}{expected}; "
        f"results in {config.out_dir}",
    )


def _name(record: TrialRecord) -> str:
    match record.auxiliary:
        case None:
            return f"trial {record.number}"
        case TrainingJob(role=Role.REPLICATE, trial=trial):
            return f"trial {trial} on a second seed"
        case job:
            return str(job.role)


@contextmanager
def make_reporter(progress: bool, verbose: bool = False) -> Iterator[ProgressReporter]:
    """Open the right display for standard error.

    Args:
        progress: Whether to show anything.
        verbose: Whether to show more.
    """
    if not progress:
        yield ProgressReporter()
        return
    console = Console(file=sys.stderr)
    if not is_terminal() or console.is_dumb_terminal:
        yield PlainReporter(console, verbose)
        return
    with (
        captured() as terminal,
        Live(
            "", console=terminal, refresh_per_second=4, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as live,
    ):
        yield LiveReporter(terminal, live, verbose)
