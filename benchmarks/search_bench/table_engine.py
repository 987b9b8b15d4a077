"""opttune's real search loop over a recorded table: an engine that looks trainings up in place of doing them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from opttune.guard.rules import StopDecision
from opttune.outcome import Outcome, StopReason
from opttune.training.attempt import Attempt, AttemptListener
from search_bench.tables import Table


@dataclass
class Meter:
    """What a search has spent on a table, and which trainings it has seen through.

    Attributes:
        table: The table.
        spent: Optimizer steps so far.
        finished: For each training that came to the full length, what was spent then and its configuration.
    """

    table: Table
    spent: int = 0
    finished: list[tuple[int, int]] = field(default_factory=list)

    def pay(self, steps: int) -> None:
        """Count optimizer steps."""
        self.spent += steps

    def finish(self, row: int) -> None:
        """Note that a configuration was trained to the end."""
        self.finished.append((self.spent, row))


class TableEngine:
    """Looks up each attempt: where the guard would have stopped it, its value at a rung and its value at the end.

    A checkpoint is a file that holds the step; an attempt that resumes from one pays only for what lies beyond.

    Args:
        meter: What counts the cost.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def __call__(self, attempt: Attempt, listener: AttemptListener) -> Outcome:
        """Look one attempt up."""
        table = self.meter.table
        if attempt.recipe is None:
            raise ValueError("a table knows nothing of the module's own optimizer: search without a baseline")
        row = table.find(attempt.recipe.flat())
        start = _step_of(getattr(attempt, "resume_from", None))
        end = min(getattr(attempt, "until_step", None) or table.steps, table.steps)
        guard = attempt.guard
        if guard is not None and start:
            # as in GuardCallback: a resumed run's first losses are not known
            guard = replace(guard, blow_up=False)
        verdict = None if guard is None else table.verdict(row, guard)
        if verdict is not None and start < verdict.step <= end:
            self.meter.pay(verdict.step - start)
            return self._diverged(verdict)
        self.meter.pay(end - start)
        return self._reached(attempt, listener, row, end)

    def _reached(self, attempt: Attempt, listener: AttemptListener, row: int, end: int) -> Outcome:
        table = self.meter.table
        if end < table.eval_steps[0]:
            # a missing value is no divergence
            raise ValueError(
                f"{table.name} has no value at step {end}: its first validation is at {table.eval_steps[0]}"
            )
        look_steps = getattr(attempt, "look_steps", 0) if end < table.steps else 0
        value = table.look_at(row, end) if look_steps else table.value_at(row, end)
        self.meter.pay(look_steps)
        if value is None:
            return self._diverged(
                StopDecision(StopReason.NON_FINITE, end, f"{attempt.monitor} is not finite at step {end}")
            )
        listener.metrics(end, {attempt.monitor: value})
        if attempt.checkpoint is not None:
            attempt.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            attempt.checkpoint.write_text(str(end))
        if end < table.steps:
            return Outcome(StopReason("paused"), value, end, table.steps, 0.0, look_steps=look_steps)
        self.meter.finish(row)
        return Outcome(StopReason.COMPLETED, value, end, table.steps, 0.0)

    def _diverged(self, verdict: StopDecision) -> Outcome:
        return Outcome(verdict.reason, None, verdict.step, self.meter.table.steps, 0.0, verdict.message)


def _step_of(checkpoint: Path | None) -> int:
    return 0 if checkpoint is None else int(checkpoint.read_text())


class NoTracking:
    """A parent run in MLflow, and the runs of its trials, that write nothing."""

    run_id = None
    key = "none"

    def child(self, *_: Any, **__: Any) -> "NoTracking":
        """Return the run of a trial."""
        return self

    def flush(self, timeout_seconds: float = 0.0) -> bool:
        """Say that all is delivered."""
        return True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _do_nothing


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


def best_so_far(finished: Sequence[tuple[int, int]], table: Table) -> list[tuple[float, float]]:
    """Return each improvement: the cost in full trainings, and the quantile of the best configuration so far.

    A method hands out what it finds best, so only trainings that were seen through count.
    """
    quantiles, found, best = table.quantiles, [], 1.0
    for spent, row in finished:
        if quantiles[row] < best and isfinite(table.final_values[row]):
            best = float(quantiles[row])
            found.append((spent / table.steps, best))
    return found
