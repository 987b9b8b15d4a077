"""What a search writes to MLflow, said in the search's own words."""

import time
from collections.abc import Mapping
from typing import Protocol

from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.tracking.study_run import StudyRun
from opttune.tracking.thinning import Thinning


class RunLog(Protocol):
    """Takes what a training tells while it runs."""

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged."""


class TrialLog:
    """Writes one trial to its child run.

    Args:
        parent: The search's run.
        number: Number of the trial.
        recipe: What it trains with; its fields are the run's params.
        total_steps: Optimizer steps of the full length; longer curves are thinned.
        key: Under which key tracking knows the run.
        is_resumed: Whether the run was begun earlier and is gone on with.
    """

    def __init__(
        self, parent: StudyRun, number: int, recipe: Recipe, total_steps: int, key: str, is_resumed: bool = False
    ) -> None:
        self._run = parent.child(number, run_name(number, recipe), key, thinning=Thinning(total_steps))
        if is_resumed:
            self._run.reopen()
        self._run.params(recipe.flat())

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""
        for record in records:
            self._run.log(record.step, step_metrics(record))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged."""
        # a module may log a name that is ours for every step
        own = {name: value for name, value in values.items() if name not in STEP_METRICS}
        self._run.log(step, own, always=True)

    def pause(self, outcome: Outcome) -> None:
        """Write that the trial waits at a rung; its run stays open."""
        share = outcome.steps / outcome.total_steps
        self._run.tags({"opttune.state": "paused", "opttune.steps": outcome.steps, "opttune.rung": f"{share:.2f}"})

    def go_on(self) -> None:
        """Write that the trial is trained further."""
        self._run.tags({"opttune.state": "running"})

    def end(self, outcome: Outcome) -> None:
        """Write how it ended."""
        self._run.end(outcome)


class ParentLog:
    """Writes a training that is no trial into the search's own run: that of the module as it came, or a repeat.

    Args:
        parent: The search's run.
        prefix: What its metrics stand under.
    """

    def __init__(self, parent: StudyRun, prefix: str) -> None:
        self._run = parent
        self._prefix = prefix

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""
        for record in records:
            self._write(record.step, step_metrics(record))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged."""
        self._write(step, {name: value for name, value in values.items() if name not in STEP_METRICS})

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        self._run.metrics([(f"{self._prefix}/{name}", value, step, now) for name, value in values.items()])


STEP_METRICS = ("train/loss", "optim/lr", "optim/grad_norm")
"""Metrics of every optimizer step."""


def step_metrics(record: StepRecord) -> dict[str, float]:
    """Return a step's metrics under the names that they have for every optimizer."""
    values = zip(STEP_METRICS, (record.loss, record.lr, record.grad_norm), strict=True)
    return {name: value for name, value in values if value is not None}


def run_name(number: int, recipe: Recipe) -> str:
    """Return a name that says something in the width of MLflow's column.

    Example:
        >>> from opttune.recipe import Part
        >>> run_name(12, Recipe(Part("adamw", {"lr": 3.14e-4})))
        '#12 adamw 3.1e-4'
    """
    lr = f"{recipe.optimizer['lr']:.1e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"#{number} {recipe.optimizer.name} {lr}"
