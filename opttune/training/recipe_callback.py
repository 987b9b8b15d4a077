"""`RecipeCallback`: train with a recipe."""

import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from opttune.build.schedule import Mode
from opttune.guard.callback import GuardCallback
from opttune.guard.rules import Guard, StopDecision
from opttune.recipe import Recipe
from opttune.space.recipe_file import load_recipe
from opttune.training.attach import RecipeAttacher
from opttune.training.callbacks import CallbackGroup, preparations
from opttune.training.ending import FinishWithValidation
from opttune.training.finders import LeaveOutFinders
from opttune.training.modes import quirk_callbacks


class RecipeCallback(CallbackGroup):
    """Replaces a module's optimizer and schedule with those of a recipe, for one fit.

    The module's code does not change, and its own `configure_optimizers` is restored after `trainer.fit`. The training
    ends with a validation, even within an epoch. With the seed of a search (`seed_everything(seed, workers=True)`
    before the module is made) it reproduces the trial's value.

    Args:
        recipe_or_path: A recipe, the path of a recipe file such as `best_recipe.yaml`, or the content of one.
        monitor: Metric for the schedule `plateau` and for the guard, under the name in the module's log.
        mode: Whether that metric should fall (`min`) or rise (`max`).
        guard: True or an `opttune.Guard` stops a run that diverges or stalls; None for no guard.

    Raises:
        RecipeError: The recipe cannot be read, or its optimizer does not take a setting.

    Example:
        >>> from opttune import Recipe
        >>> recipe = Recipe.from_dict({"optimizer": {"name": "adamw", "lr": 3e-4}, "schedule": "cosine"})
        >>> RecipeCallback(recipe).recipe.optimizer.name
        'adamw'
    """

    def __init__(
        self,
        recipe_or_path: Recipe | str | Path | dict[str, Any],
        *,
        guard: Guard | bool | None = None,
        monitor: str = "val_loss",
        mode: Mode = "min",
    ) -> None:
        if isinstance(recipe_or_path, dict):
            recipe = Recipe.from_dict(recipe_or_path)
        else:
            recipe = recipe_or_path if isinstance(recipe_or_path, Recipe) else load_recipe(recipe_or_path)
        self._attacher = RecipeAttacher(recipe, monitor, mode)
        quirks = quirk_callbacks(recipe)
        settings = Guard.of(guard, default=False)
        self._guard = None if settings is None else GuardCallback(settings, monitor=monitor, mode=mode)
        guards = [] if self._guard is None else [self._guard]
        preparing = (LeaveOutFinders(), *preparations())
        super().__init__(*preparing, self._attacher, *quirks, *guards, FinishWithValidation())

    @property
    def recipe(self) -> Recipe:
        """The recipe in use, with the Trainer's own values of clipping and accumulation, if it has any."""
        return self._attacher.recipe

    @property
    def decision(self) -> StopDecision | None:
        """The guard's decision to stop the run, or None."""
        return None if self._guard is None else self._guard.decision

    @property
    def verdict(self) -> StopDecision | None:
        """The former name of `decision`."""
        warnings.warn("RecipeCallback.verdict is now called decision.", DeprecationWarning, stacklevel=2)
        return self.decision

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Report the replaced optimizer."""
        rank_zero_info(f"opttune: {self._attacher.change}{_effective_batch(trainer)}")
        for note in (*self._attacher.notes, *self._attacher.module_notes):
            rank_zero_warn(f"opttune: {note}.")
        super().on_train_start(trainer, pl_module)


def _effective_batch(trainer: Any) -> str:
    """Return the number of samples of one optimizer step, in words; empty if the batch size is unknown."""
    batch = getattr(trainer.train_dataloader, "batch_size", None)
    if not isinstance(batch, int):
        return ""
    accumulated, devices = trainer.accumulate_grad_batches, trainer.world_size
    effective = batch * accumulated * devices
    return f"; {effective} samples a step ({batch} a batch x {accumulated} accumulated x {devices} devices)"
