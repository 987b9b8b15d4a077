"""The live table of a search: its budget, and its trials in the order of their values."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from opttune.guard.steps import StepRecord
from opttune.job import Role
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.tracking.training_log import short_rate
from opttune.trial_record import TrialRecord

_MOST_ROWS, _LEAST_ROWS = 12, 3
_LINES_AROUND = 7
"""Lines of a terminal for the table's frame, the budget and a line above."""
_STATE_WIDTH = 22
"""Wide enough that the width of the table does not change with the loss."""
_STATES = {
    StopReason.COMPLETED: "finished",
    StopReason.EARLY_STOPPED: "finished",
    StopReason.PAUSED: "paused",
    StopReason.OUTRANKED: "not promoted",
    StopReason.NON_FINITE: "diverged",
    StopReason.BLOW_UP: "diverged",
    StopReason.STALL: "stalled",
    StopReason.PRUNED: "pruned",
    StopReason.OUT_OF_MEMORY: "out of memory",
    StopReason.FAILED: "failed",
    StopReason.INTERRUPTED: "interrupted",
}


@dataclass
class _Row:
    """A training.

    Attributes:
        record: The training's record at its start or its last resumption.
        last: Its outcome, or its last pause.
        running: The numbers of its latest step, during training.
        measured: The metric at its latest validation, during training.
        is_running: Whether it is running now.
    """

    record: TrialRecord
    last: Outcome | None = None
    running: StepRecord | None = None
    measured: float | None = None
    is_running: bool = False

    @property
    def value(self) -> float | None:
        if self.measured is not None:
            return self.measured
        return self.last.value if self.last is not None and self.last.reason.has_value else None

    @property
    def is_finished(self) -> bool:
        return self.last is not None and self.last.reason.counts and not self.is_running

    @property
    def state(self) -> str:
        if self.is_running:
            loss = None if self.running is None else self.running.loss
            return "training" if loss is None else f"training, loss {loss:.4g}"
        return "waits" if self.last is None else _STATES[self.last.reason]


class LiveTable:
    """The budget, the best trials, and each training that is running.

    Args:
        monitor: The metric.
        mode: Whether it should fall or rise.
        total_steps: Optimizer steps of the full length.
        budget: Cost of the search in full trainings.
        replaced: The module's own optimizer, in words.
        steps_of: Returns the optimizer steps of a full training with a recipe, if trainings have equal time instead of
            equal steps; None if all have the full length.
    """

    def __init__(
        self,
        monitor: str,
        mode: Literal["min", "max"],
        total_steps: int,
        budget: float,
        replaced: str,
        steps_of: Callable[[Recipe | None], int] | None = None,
    ) -> None:
        self._monitor, self._total_steps, self._budget, self._replaced = monitor, total_steps, budget, replaced
        self._steps_of = steps_of or (lambda recipe: total_steps)
        self._sign = 1 if mode == "min" else -1
        self._rows: dict[str, _Row] = {}
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[shown]}"))
        self._task = self._bar.add_task("budget", total=budget * total_steps, shown="")
        self._began, self._spent_before = time.monotonic(), 0

    def begin(self, records: Sequence[TrialRecord], steps_spent: int) -> None:
        """Take over the records of an earlier part of the search."""
        self._rows = {record.name: _Row(record, record.last) for record in records}
        self._began, self._spent_before = time.monotonic(), steps_spent
        self.spend(steps_spent)

    def start(self, record: TrialRecord) -> None:
        """Show that a training has started or resumed."""
        self._rows[record.name] = _Row(record, record.last, is_running=True)

    def step(self, record: TrialRecord, latest: StepRecord) -> None:
        """Show the numbers of a training's latest step."""
        if record.name in self._rows:
            self._rows[record.name].running = latest

    def measure(self, record: TrialRecord, values: Mapping[str, float]) -> None:
        """Show the metric of a validation."""
        if record.name in self._rows and self._monitor in values:
            self._rows[record.name].measured = values[self._monitor]

    def end(self, record: TrialRecord, outcome: Outcome) -> None:
        """Show the outcome of a training; a replicate has no row among the trials."""
        if record.role is Role.REPLICATE:
            self._rows.pop(record.name, None)
        else:
            self._rows[record.name] = _Row(record, outcome)

    def discard(self, number: int) -> None:
        """Show that a paused trial will not be promoted."""
        row = next((row for row in self._rows.values() if row.record.is_trial and row.record.number == number), None)
        if row is not None and row.last is not None:
            last = row.last
            row.last = Outcome(StopReason.OUTRANKED, last.value, last.steps, last.total_steps, last.seconds)

    def spend(self, steps_spent: int) -> None:
        """Move the bar of the budget."""
        cost = f"{steps_spent / self._total_steps:.1f} of {self._budget:g} trainings"
        done, left = steps_spent - self._spent_before, self._budget * self._total_steps - steps_spent
        seconds = left * (time.monotonic() - self._began) / done if done > 0 and left > 0 else None
        shown = cost if seconds is None else f"{cost}, {about(seconds)} left"
        self._bar.update(self._task, completed=steps_spent, shown=shown)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table within the size of the terminal."""
        most = max(_LEAST_ROWS, min(_MOST_ROWS, console.height - _LINES_AROUND))
        rows = self._in_order()
        ranks = {row.record.name: rank for rank, row in enumerate(filter(_has_rank, rows), 1)}
        table = Table()
        for name in ("rank", "trial", "optimizer", "lr", "at", self._monitor):
            table.add_column(name, no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=_STATE_WIDTH)
        for row in _visible(rows, most):
            table.add_row(*map(Text, (str(ranks.get(row.record.name, "")), *self._cells(row))))
        yield Group(self._bar, table, Text(self._counts(rows), no_wrap=True, overflow="ellipsis"))

    def _in_order(self) -> list[_Row]:
        """Return the finished trainings by value, then the running ones, then the others by their progress."""

        def place(row: _Row) -> tuple[int, float, float]:
            value = float("inf") if row.value is None else self._sign * row.value
            if row.is_finished:
                return 0, value, 0
            return 1 if row.is_running else 2 if row.value is not None else 3, -self._share(row), value

        return sorted(self._rows.values(), key=place)

    def _cells(self, row: _Row) -> tuple[str, ...]:
        recipe = row.record.recipe
        optimizer = self._replaced if recipe is None else recipe.optimizer.name
        value = "" if row.value is None else f"{row.value:.5g}"
        rate = "" if recipe is None else short_rate(recipe, ".2g")
        return short_name(row.record), optimizer, rate, f"{self._share(row):.0%}", value, row.state

    def _share(self, row: _Row) -> float:
        """Return the finished share of a training's full length."""
        done = row.last.steps / row.last.total_steps if row.last is not None and row.last.total_steps else 0.0
        if not row.is_running or row.running is None:
            return done
        return max(done, row.running.step / self._steps_of(row.record.recipe))

    def _counts(self, rows: Sequence[_Row]) -> str:
        """Return the number of trials in each state; only the search's own trials count."""
        states = ["training" if row.is_running else row.state for row in rows if row.record.is_trial]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return f"{len(states)} trials: {counts}" if states else "no trial yet"


def _has_rank(row: _Row) -> bool:
    return row.is_finished and row.record.is_trial


def _visible(rows: Sequence[_Row], most: int) -> list[_Row]:
    """Return the rows that fit: the running ones, and the first of the others."""
    running = [row for row in rows if row.is_running][:most]
    others = [row for row in rows if not row.is_running][: most - len(running)]
    return [row for row in rows if row in running or row in others]


def short_name(record: TrialRecord) -> str:
    """Return a training's name for a column.

    Example:
        >>> short_name(TrialRecord(3, "running", None, None, None))
        '3'
    """
    if record.auxiliary is None:
        return str(record.number)
    job = record.auxiliary
    return f"{job.trial}, second seed" if job.role is Role.REPLICATE else str(job.role)


def about(seconds: float) -> str:
    """Return a time in words, with the precision of an estimate.

    Example:
        >>> about(0.3), about(37), about(100), about(9000)
        ('about 1 s', 'about 37 s', 'about 2 min', 'about 2.5 h')
    """
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.2g} h"
