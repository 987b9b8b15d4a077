"""The Trainer's fields of a recipe: clipping, accumulation, precision."""

from dataclasses import replace
from typing import Any

from opttune.build.module_facts import has_sparse_gradients
from opttune.catalog.lookup import find_optimizer
from opttune.errors import RecipeError
from opttune.recipe import Recipe
from opttune.training.length import varies_accumulation
from opttune.training.own_optimizer import is_overridden

# Lightning's names for these spellings
_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


class TrainerSettings:
    """Sets the fields of a recipe on a Trainer, for one fit.

    Args:
        recipe: The settings.

    Attributes:
        recipe: The settings in use, with the Trainer's own values of clipping and accumulation, if it has any.
        notes: Unused fields of the recipe with the reasons, one sentence each.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = self._asked_for = recipe
        self.notes: list[str] = []
        self._before: list[tuple[str, Any]] = []

    def configure(self, trainer: Any, module: Any) -> None:
        """Set the recipe's fields on the Trainer; the Trainer's own settings are kept and noted."""
        self.recipe, self.notes = self._asked_for, []
        precision = self.recipe.precision
        if precision is not None and _PRECISIONS.get(precision, precision) != trainer.precision:
            raise RecipeError(
                f"the recipe needs Trainer(precision={precision!r}), got precision={trainer.precision!r}. "
                "A Trainer's precision cannot be changed once it is made."
            )
        if not module.automatic_optimization:
            why = "under manual optimization the module clips gradients and accumulates batches itself"
            self._drop_field("accumulate_grad_batches", 1, why)
            self._drop_field("gradient_clip_norm", None, why)
            return
        if varies_accumulation(trainer):
            self._drop_field("accumulate_grad_batches", 1, "the Trainer's GradientAccumulationScheduler stays")
        else:
            self._configure_field(trainer, "accumulate_grad_batches", "accumulate_grad_batches", 1)
        if (info := find_optimizer(self.recipe.optimizer.name)).own_clipping:
            self._drop_field("gradient_clip_norm", None, f"{info.name} bounds its steps itself")
        if is_overridden(type(module), "configure_gradient_clipping"):
            # it may pass another value, which Lightning refuses beside the Trainer's
            self._drop_field("gradient_clip_norm", None, f"{type(module).__name__} clips gradients itself")
        if has_sparse_gradients(module):
            self._drop_field("gradient_clip_norm", None, "some gradients are sparse")
        if getattr(trainer, "gradient_clip_algorithm", None) == "value":
            self._drop_field("gradient_clip_norm", None, "the Trainer clips by value")
        else:
            self._configure_field(trainer, "gradient_clip_norm", "gradient_clip_val", None)

    def _configure_field(self, trainer: Any, field: str, attribute: str, unset: int | None) -> None:
        wanted, present = getattr(self.recipe, field), getattr(trainer, attribute)
        if present == wanted:
            return
        if present == unset:
            self._before.append((attribute, present))
            setattr(trainer, attribute, wanted)
        elif wanted != unset or not find_optimizer(self.recipe.optimizer.name).is_own:
            # a Trainer's clipping at 0 means none
            self._drop_field(field, present or unset, f"the Trainer's {attribute}={present} stays")

    def _drop_field(self, field: str, instead: Any, why: str) -> None:
        wanted = getattr(self.recipe, field)
        if wanted != instead:
            self.notes.append(f"{why}; the recipe's {field}={wanted} is left out")
            self.recipe = replace(self.recipe, **{field: instead})

    def leave_out_clipping(self, trainer: Any) -> None:
        """Leave out the recipe's clipping, because gradients have turned out to be sparse."""
        if trainer.gradient_clip_val == self.recipe.gradient_clip_norm:
            self._before.append(("gradient_clip_val", trainer.gradient_clip_val))
            trainer.gradient_clip_val = None

    def restore(self, trainer: Any) -> None:
        """Restore the Trainer's own settings."""
        while self._before:
            setattr(trainer, *self._before.pop())
