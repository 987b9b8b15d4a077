"""A single training of a task, outside of any search."""

from collections.abc import Mapping, Sequence
from math import inf

from opttune.guard.steps import StepRecord
from opttune.recipe import Recipe
from opttune.training.attempt import Attempt, run_attempt
from opttune.training.workload import Workload
from search_bench.tasks import LiveTask


def final_loss(task: LiveTask, recipe: Recipe, seed: int) -> float:
    """Return the validation loss at the end of the full length; infinite where the training diverged."""
    attempt = Attempt(recipe, "val_loss", seed, {"max_steps": task.steps, "accelerator": "cpu", **task.trainer})
    value = run_attempt(attempt, Workload(task.model, task.data), NoListener()).value
    return inf if value is None else value


class NoListener:
    """A listener that ignores the numbers of a training."""

    def steps(self, records: Sequence[StepRecord]) -> None:
        pass

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        pass
