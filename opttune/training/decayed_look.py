"""The value of a paused training after the decay of its learning rate.

At a rung the learning rate is usually still high, and so is the noise of the steps. When the rate decays, the loss
falls by an amount that depends on the recipe. Therefore a copy of the training continues from the saved state for a few
steps with a rate that falls linearly to where its schedule ends. The copy is validated and discarded; the training
itself resumes from the saved state. This is the cooldown branch off a trunk of Hägele et al. 2024
(https://arxiv.org/abs/2405.18392), here from any schedule. `benchmarks/looks.py` compares it with the value at the rung
itself.

A constant rate decays neither in the training nor in the copy. With a decay in the copy alone, it would look better
than it is: the copy would follow a better schedule.
"""

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from opttune.build.own_knobs import OwnKnobs, group_rates
from opttune.build.schedule import has_curve, multiplier
from opttune.catalog.lookup import find_schedule
from opttune.recipe import OWN, Part, Recipe
from opttune.trainer.namespaces import AnyCallback
from opttune.training.length import count_steps


class DecayToEnd(AnyCallback):
    """Decays the learning rates of all optimizers linearly to those at the end of their schedules.

    Step `i` of `n`, counted from 0, uses `1 - (1 - e) i / n` of its rate, with the optimizer's end share `e`.

    Args:
        recipe: The recipe of the training; None for the module's own.
        begin: Optimizer steps done before.
        steps: Optimizer steps of the decay, >= 1.
    """

    def __init__(self, recipe: Recipe | None, begin: int, steps: int) -> None:
        super().__init__()
        self._recipe, self._begin, self._steps = recipe, begin, steps
        self._configured: list[list[float]] = []
        self._end_shares: list[float] = []
        self._knobs: list[OwnKnobs] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the rates with which the module configures its optimizers, before the checkpoint restores others."""
        self._configured = [group_rates(optimizer) for optimizer in trainer.optimizers]

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the factors of the next step."""
        self._end_shares = self._end_shares or self._read_end_shares(trainer)
        for knobs in self._knobs:
            knobs.remove()
        progress = min(self._steps - 1, trainer.global_step - self._begin) / self._steps
        self._knobs = [
            OwnKnobs(optimizer, Part(OWN, {"lr_factor": 1 - (1 - share) * progress}), is_shared=True)
            for optimizer, share in zip(trainer.optimizers, self._end_shares, strict=True)
        ]

    def _read_end_shares(self, trainer: Any) -> list[float]:
        recipes = (self._recipe or Recipe.of_baseline()).for_each(len(trainer.optimizers))
        total_steps = count_steps(trainer)
        last = min(self._begin + self._steps, total_steps) - 1
        scheduled = [config.scheduler.optimizer for config in trainer.lr_scheduler_configs]
        return [
            _end_share_of_own(optimizer, configured, scheduled)
            if one.schedule.name == OWN
            else end_share(one.schedule, last, total_steps)
            for one, optimizer, configured in zip(recipes, trainer.optimizers, self._configured, strict=True)
        ]


def _end_share_of_own(optimizer: Optimizer, configured: Sequence[float], scheduled: Sequence[Optimizer]) -> float:
    """Return 1 for a rate that is as configured and that nothing schedules: it is constant. All others count as 0."""
    # the module's own code may set rates as well
    is_constant = not any(one is optimizer for one in scheduled) and group_rates(optimizer) == configured
    return 1.0 if is_constant else 0.0


def end_share(schedule: Part, step: int, total_steps: int) -> float:
    """Return the learning rate at the end of a schedule over that in an earlier step; at most 1.

    Args:
        schedule: Name and options, from a recipe.
        step: The earlier step, counted from 0.
        total_steps: Optimizer steps of the full length.

    Returns:
        The share. A schedule that follows the metric has no curve: it counts as fallen to its floor.

    Example:
        >>> [end_share(Part(name), 20, total_steps=100) for name in ("constant", "linear", "plateau")]
        [1.0, 0.0, 0.0]
        >>> round(end_share(Part("linear", {"final_lr_fraction": 0.1}), 50, total_steps=100), 3)
        0.182
    """
    if not has_curve(find_schedule(schedule.name)):
        floor = schedule.get("final_lr_fraction", 0.0)
        return float(floor) if isinstance(floor, int | float) else 0.0
    factor = multiplier(schedule, total_steps)
    # a cycle that would begin after the last step is not the end
    now, end = factor(step), min(factor(total_steps - 1), factor(total_steps))
    return min(1.0, end / now) if now > 0 else 1.0
