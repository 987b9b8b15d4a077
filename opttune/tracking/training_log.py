"""Write a training to its MLflow run."""

from collections.abc import Mapping
from math import log10

from opttune.guard.steps import StepRecord
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome
from opttune.recipe import OWN, Recipe
from opttune.tracking.study_run import StudyRun
from opttune.tracking.thinning import Thinning

_WIDTH = 20
"""Width of MLflow's column of names, in characters."""


class TrainingLog:
    """Writes one training to a separate child run of the search's run.

    Args:
        parent: The search's run.
        job: The training.
        total_steps: Optimizer steps of the full length; longer curves are thinned.
        key: The run's key in tracking.
        is_resumed: Whether the run exists and is continued.
    """

    def __init__(
        self, parent: StudyRun, job: TrainingJob, total_steps: int, key: str, is_resumed: bool = False
    ) -> None:
        self._run = parent.child(_name(job), key, tags=_tags(job), thinning=Thinning(total_steps))
        if is_resumed:
            self._run.reopen()
        self._run.params(_params(job))

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""
        for record in records:
            self._run.log(record.step, step_metrics(record))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged."""
        # a module may log a name that opttune uses for every step
        own = {name: value for name, value in values.items() if name not in STEP_METRICS}
        self._run.log(step, own, always=True)

    def begin(self, *, is_resumed: bool) -> None:
        """Write that the training is running.

        Args:
            is_resumed: Whether it was paused before.
        """
        if is_resumed:
            self._run.tags({"opttune.state": "running"})
        self._run.training_begins()

    def pause(self, outcome: Outcome) -> None:
        """Write that it waits at a rung; its run stays open."""
        self._run.training_ends()
        share = outcome.steps / outcome.total_steps
        self._run.tags(
            {"opttune.state": "paused", "opttune.steps": outcome.optimizer_steps, "opttune.rung": f"{share:.2f}"}
        )

    def leave(self) -> None:
        """Stop writing: another process trains the trial."""
        self._run.training_ends()

    def end(self, outcome: Outcome, seconds: float | None = None) -> None:
        """Write the end of the training.

        Args:
            outcome: Its outcome.
            seconds: Wall time of all its parts; None if the training did not end.
        """
        if seconds is not None:
            self._run.log(outcome.optimizer_steps, cost_metrics(outcome, seconds), always=True)
        if outcome.reason.counts:
            self._run.tags({"opttune.rung": "1.00"})
        self._run.end(outcome)


def _name(job: TrainingJob) -> str:
    match job.role:
        case Role.BASELINE:
            return "baseline"
        case Role.CONFIRMATION:
            prefix = f"s{job.seed}"
        case Role.REPLICATE:
            prefix = f"#{job.trial} s{job.seed}"
        case Role.TRIAL:
            prefix = f"#{job.trial}"
    return f"{prefix} {job.label}"[:_WIDTH] if job.recipe is None else short_name(prefix, job.recipe)


def _tags(job: TrainingJob) -> dict[str, str]:
    number = {} if job.trial is None else {"opttune.trial": str(job.trial)}
    seed = {} if job.role is Role.TRIAL else {"opttune.seed": str(job.seed)}
    candidate = {"opttune.candidate": job.label} if job.label else {}
    return {"opttune.role": str(job.role), **number, **seed, **candidate}


def _params(job: TrainingJob) -> dict[str, object]:
    what: dict[str, object] = {"optimizer": job.label} if job.recipe is None else recipe_params(job.recipe)
    return what if job.role is Role.TRIAL else {"seed": job.seed, **what}


BEST_OVER_SECONDS = "best/objective_over_seconds"
"""The best value so far; its steps are seconds of training."""

STEP_METRICS = ("train/loss", "optim/lr", "optim/grad_norm")
"""Metrics of every optimizer step."""


def step_metrics(record: StepRecord) -> dict[str, float]:
    """Return a step's metrics, under the same names for every optimizer."""
    values = zip(STEP_METRICS, (record.loss, record.lr, record.grad_norm), strict=True)
    return {name: value for name, value in values if value is not None}


def recipe_params(recipe: Recipe) -> dict[str, object]:
    """Return a recipe's fields as params, and `log10_lr`, since the axes of MLflow's compare page are linear."""
    lr = recipe.optimizer.get("lr")
    logarithm = {"log10_lr": log10(lr)} if isinstance(lr, int | float) and lr > 0 else {}
    return {**recipe.flat(), **logarithm}


def cost_metrics(outcome: Outcome, seconds: float) -> dict[str, float]:
    """Return the cost metrics of a training.

    Example:
        >>> from opttune.outcome import StopReason
        >>> cost_metrics(Outcome(StopReason.COMPLETED, 0.5, 100, 100, 2.0, state_bytes=80), seconds=4.0)
        {'cost/seconds': 4.0, 'cost/steps_per_second': 25.0, 'cost/optimizer_state_bytes': 80.0}
    """
    rate = {"cost/steps_per_second": outcome.optimizer_steps / seconds} if seconds > 0 else {}
    step = {} if outcome.step_seconds is None else {"cost/step_seconds": outcome.step_seconds}
    return {"cost/seconds": seconds, **rate, **step, "cost/optimizer_state_bytes": float(outcome.state_bytes)}


def short_rate(recipe: Recipe, style: str = ".1e") -> str:
    """Return the learning rate in few characters: `3.1e-4`, or `x2` for a factor on the module's own rate.

    Example:
        >>> from opttune.recipe import Part
        >>> short_rate(Recipe(Part("adamw", {"lr": 3.1e-4}))), short_rate(Recipe(Part("own", {"lr_factor": 100.0})))
        ('3.1e-4', 'x100')
    """
    optimizers = recipe.optimizer.split()
    rates = [f"x{(one.rate or 1):.3g}" if one.name == OWN else _short(one.rate, style) for one in optimizers]
    return ",".join(rates)


def _short(rate: float | None, style: str) -> str:
    return "" if rate is None else f"{rate:{style}}".replace("e-0", "e-").replace("e+0", "e+")


def short_name(prefix: str, recipe: Recipe) -> str:
    """Return a prefix, the optimizer and its learning rate, in the 20 characters of MLflow's column.

    Example:
        >>> from opttune.recipe import Part
        >>> short_name("#12", Recipe(Part("schedule_free_adamw", {"lr": 3.14e-4})))
        '#12 schedule_ 3.1e-4'
    """
    lr = short_rate(recipe)
    room = max(1, _WIDTH - len(prefix) - len(lr) - 2)
    return f"{prefix} {recipe.optimizer.name[:room]} {lr}"
