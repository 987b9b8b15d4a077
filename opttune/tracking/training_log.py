"""What a search writes to MLflow, said in the search's own words."""

import time
from collections.abc import Mapping
from math import log10
from typing import Protocol

from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.tracking.study_run import StudyRun
from opttune.tracking.thinning import Thinning
from opttune.tracking.trial_run import TrialRun

_WIDTH = 20
"""Characters of MLflow's column of names."""


class RunLog(Protocol):
    """Takes what a training tells while it runs."""

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged."""


class _OwnRunLog:
    """Writes a training to a run of its own."""

    _run: TrialRun

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""
        for record in records:
            self._run.log(record.step, step_metrics(record))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged."""
        # a module may log a name that is ours for every step
        own = {name: value for name, value in values.items() if name not in STEP_METRICS}
        self._run.log(step, own, always=True)


class TrialLog(_OwnRunLog):
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
        self._run.params(recipe_params(recipe))

    def pause(self, outcome: Outcome) -> None:
        """Write that the trial waits at a rung; its run stays open."""
        self._run.training_ends()
        share = outcome.steps / outcome.total_steps
        self._run.tags({"opttune.state": "paused", "opttune.steps": outcome.steps, "opttune.rung": f"{share:.2f}"})

    def begin(self, *, goes_on: bool) -> None:
        """Write that the trial is trained from now on.

        Args:
            goes_on: Whether it was paused.
        """
        if goes_on:
            self._run.tags({"opttune.state": "running"})
        self._run.training_begins()

    def leave(self) -> None:
        """Write no more of it: another process trains it."""
        self._run.training_ends()

    def end(self, outcome: Outcome, seconds: float | None = None) -> None:
        """Write how it ended.

        Args:
            outcome: What came of it.
            seconds: Wall time of all its parts; None where the training did not come to an end.
        """
        if seconds is not None:
            self._run.log(outcome.steps, cost_metrics(outcome, seconds), always=True)
        if outcome.reason.counts:
            self._run.tags({"opttune.rung": "1.00"})
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


class ConfirmationLog(_OwnRunLog):
    """Writes one training of a verdict to a run of its own under the search's, marked so that it is no trial.

    Args:
        parent: The search's run.
        recipe: What it trains with; None for the module as it came.
        label: What to call who is trained.
        seed: The seed.
        key: Under which key tracking knows the run; one that was begun earlier is begun anew.
    """

    def __init__(self, parent: StudyRun, recipe: Recipe | None, label: str, seed: int, key: str) -> None:
        name = f"s{seed} {label}"[:_WIDTH] if recipe is None else short_name(f"s{seed}", recipe)
        self._run = parent.confirmation(name, key, {"opttune.candidate": label, "opttune.seed": str(seed)})
        self._run.params({"seed": seed, **(recipe_params(recipe) if recipe else {"optimizer": label})})

    def end(self, outcome: Outcome) -> None:
        """Write how it ended."""
        self._run.log(outcome.steps, cost_metrics(outcome, outcome.seconds), always=True)
        self._run.end(outcome)


STEP_METRICS = ("train/loss", "optim/lr", "optim/grad_norm")
"""Metrics of every optimizer step."""


def step_metrics(record: StepRecord) -> dict[str, float]:
    """Return a step's metrics under the names that they have for every optimizer."""
    values = zip(STEP_METRICS, (record.loss, record.lr, record.grad_norm), strict=True)
    return {name: value for name, value in values if value is not None}


def recipe_params(recipe: Recipe) -> dict[str, object]:
    """Return a recipe's fields as params, and `log10_lr`: the axes of MLflow's compare page are linear."""
    lr = recipe.optimizer.get("lr")
    logarithm = {"log10_lr": log10(lr)} if isinstance(lr, int | float) and lr > 0 else {}
    return {**recipe.flat(), **logarithm}


def cost_metrics(outcome: Outcome, seconds: float) -> dict[str, float]:
    """Return what a training cost.

    Example:
        >>> from opttune.outcome import StopReason
        >>> cost_metrics(Outcome(StopReason.COMPLETED, 0.5, 100, 100, 2.0, state_bytes=80), seconds=4.0)
        {'cost/seconds': 4.0, 'cost/steps_per_second': 25.0, 'cost/optimizer_state_bytes': 80.0}
    """
    rate = {"cost/steps_per_second": outcome.steps / seconds} if seconds > 0 else {}
    return {"cost/seconds": seconds, **rate, "cost/optimizer_state_bytes": float(outcome.state_bytes)}


def run_name(number: int, recipe: Recipe) -> str:
    """Return a name that says something in the width of MLflow's column: 20 characters.

    Example:
        >>> from opttune.recipe import Part
        >>> run_name(12, Recipe(Part("adamw", {"lr": 3.14e-4})))
        '#12 adamw 3.1e-4'
        >>> run_name(12, Recipe(Part("schedule_free_adamw", {"lr": 3.14e-4})))
        '#12 schedule_ 3.1e-4'
    """
    return short_name(f"#{number}", recipe)


def short_name(prefix: str, recipe: Recipe) -> str:
    """Return a prefix, the optimizer and its learning rate, in 20 characters."""
    lr = f"{recipe.optimizer['lr']:.1e}".replace("e-0", "e-").replace("e+0", "e+")
    room = max(1, _WIDTH - len(prefix) - len(lr) - 2)
    return f"{prefix} {recipe.optimizer.name[:room]} {lr}"
