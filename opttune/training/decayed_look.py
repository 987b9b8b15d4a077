"""The value of a paused training after the decay of its learning rate.

At a rung the learning rate is usually still high, and so is the noise of the steps. When the rate decays, the loss
falls by an amount that depends on the recipe. Therefore a copy of the training continues from the saved state for a few
steps with a rate that falls linearly to where its schedule ends. The copy is validated and discarded; the training
itself resumes from the saved state. This is the cooldown branch off a trunk of Hägele et al. 2024
(https://arxiv.org/abs/2405.18392), here from any schedule. `benchmarks/looks.py` compares it with the value at the rung
itself.

A constant rate does not decay, neither in the training nor in the copy. With a decay in the copy alone, it would look
better than it is: the copy would follow a better schedule.
"""

from typing import Any

from opttune.build.own_knobs import OwnKnobs
from opttune.build.schedule import has_curve, multiplier
from opttune.catalog.lookup import find_schedule
from opttune.recipe import OWN, Part, Recipe
from opttune.trainer.namespaces import AnyCallback


class DecayToEnd(AnyCallback):
    """Decays the learning rates of all optimizers linearly to those at the end of their schedules.

    Step `i` of `n`, counted from 0, uses `1 - (1 - e) i / n` of its rate, with the share `e` of the rate that is left
    at the end.

    Args:
        recipe: The recipe of the training; None for the module's own.
        begin: Optimizer steps done before.
        steps: Optimizer steps of the decay, >= 1.
        total_steps: Optimizer steps of the full length.
    """

    def __init__(self, recipe: Recipe | None, begin: int, steps: int, total_steps: int) -> None:
        super().__init__()
        self._recipe, self._begin, self._steps, self._total_steps = recipe, begin, steps, total_steps
        self._knobs: list[OwnKnobs] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the factors of the next step."""
        for knobs in self._knobs:
            knobs.remove()
        done = min(self._steps - 1, trainer.global_step - self._begin) / self._steps
        self._knobs = [
            OwnKnobs(optimizer, Part(OWN, {"lr_factor": 1 - (1 - left) * done}), is_shared=True)
            for optimizer, left in zip(trainer.optimizers, self._shares_left(trainer), strict=True)
        ]

    def _shares_left(self, trainer: Any) -> list[float]:
        recipes = (self._recipe or Recipe.of_baseline()).for_each(len(trainer.optimizers))
        if all(one.schedule.name == OWN for one in recipes) and not trainer.lr_scheduler_configs:
            # without a scheduler, the module's own rate is constant
            return [1.0] * len(recipes)
        return [share_left(one.schedule, self._begin, self._total_steps) for one in recipes]


def share_left(schedule: Part, begin: int, total_steps: int) -> float:
    """Return the learning rate in the last step of a schedule over that in a step before; at most 1.

    Args:
        schedule: Name and options, from a recipe.
        begin: The earlier step, counted from 0.
        total_steps: Optimizer steps of the full length.

    Returns:
        The share; 0 for a schedule without a curve, which follows the metric or is the module's own.

    Example:
        >>> [round(share_left(Part(name), 20, total_steps=100), 4) for name in ("constant", "linear", "plateau")]
        [1.0, 0.0125, 0.0]
        >>> round(share_left(Part("cosine", {"final_lr_fraction": 0.1}), 0, total_steps=10_000), 4)
        0.1
    """
    if not has_curve(find_schedule(schedule.name)):
        return 0.0
    factor = multiplier(schedule, total_steps)
    now, last = factor(begin), factor(total_steps - 1)
    return min(1.0, last / now) if now > 0 else 1.0
