"""Put a recipe in place of a module's own optimizer and schedule, for one fit.

`configure_optimizers` is bound on the instance in the `setup` hook and runs when the Trainer asks for it, because
the number of optimizer steps is not known before. After the fit the module is unchanged.
"""

from dataclasses import replace
from types import MethodType
from typing import Any

from opttune.build.optimizer import build_optimizer, describe_groups, groups_table
from opttune.build.schedule import Mode, multiplier, scheduler_config
from opttune.catalog.check import check_recipe, with_defaults
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import ModelError, RecipeError
from opttune.recipe import Recipe
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.internals import batch_norm_epochs
from opttune.trainer.namespaces import AnyCallback
from opttune.training.own_optimizer import OwnOptimizer, ask_own_optimizer

_HOOK = "configure_optimizers"
# what Lightning makes of these spellings
_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


class RecipeAttacher(AnyCallback):
    """Makes one fit train with a recipe.

    Args:
        recipe: The settings; they are checked against the catalog.
        monitor: Metric for a schedule that follows one.
        mode: Whether that metric is to fall or to rise.

    Attributes:
        recipe: The settings in use. Where the Trainer sets clipping or accumulation itself, its values are kept.
        own: The module's own optimizer, once the fit has begun.
        groups: Table of the new optimizer's parameter groups in Markdown, once the fit has begun.
        notes: Fields of the recipe that are not used, and why; one sentence each.
    """

    def __init__(self, recipe: Recipe, monitor: str = "val_loss", mode: Mode = "min") -> None:
        super().__init__()
        check_recipe(recipe)
        self._info = find_optimizer(recipe.optimizer.name)
        self._monitor, self._mode = monitor, mode
        self.recipe = recipe
        self.own: OwnOptimizer | None = None
        self.groups = ""
        self.notes: list[str] = []
        self._asked_for = recipe
        self._total_steps = 0
        self._group_options: list[dict[str, Any]] = []
        self._trainer_settings: list[tuple[str, Any]] = []
        self._bound: ReplacedHook | None = None

    @property
    def replaced(self) -> str:
        """The module's own optimizer in words; empty before the fit."""
        return self.own.words if self.own else ""

    def bind(self, module: Any) -> None:
        """Bind the recipe's `configure_optimizers` on a module, unless it is bound already.

        A module without one needs this before `trainer.fit`: a Trainer refuses it before any hook is called.
        """
        if self._bound is not None:
            return
        own = getattr(module, _HOOK)

        def configure_optimizers(module: Any) -> dict[str, Any]:
            return self._configure(module, ask_own_optimizer(own))

        self._bound = ReplacedHook(module, _HOOK, MethodType(configure_optimizers, module))

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Bind the recipe."""
        if stage != "fit":
            return
        refuse_untunable(trainer, pl_module)
        self._configure_trainer(trainer)
        self.bind(pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """In a resumed run, apply this fit's recipe and length from the current step on."""
        if trainer.global_step == 0:
            return
        # the checkpoint has restored the options and the rate of the recipe and length that it was saved with
        scheduler = trainer.lr_scheduler_configs[0].scheduler
        if find_schedule(self.recipe.schedule.name).follows_monitor:
            return
        factor = multiplier(self.recipe.schedule, self._total_steps)(scheduler.last_epoch)
        for group, options in zip(trainer.optimizers[0].param_groups, self._group_options, strict=True):
            group.update(options, initial_lr=options["lr"], lr=options["lr"] * factor)
        scheduler.base_lrs = [options["lr"] for options in self._group_options]

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the module's own `configure_optimizers`."""
        self._undo(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module's own `configure_optimizers`."""
        self._undo(trainer)

    def _configure(self, module: Any, own: OwnOptimizer) -> dict[str, Any]:
        self._total_steps = count_steps(module.trainer)
        # parameters that the module's own optimizer leaves out stay untrained, such as a frozen backbone
        optimizer = build_optimizer(self.recipe, module, self._total_steps, own.groups)
        names = with_defaults(self.recipe.optimizer, self._info)
        self._group_options = [
            {name: group[name] for name in names if name in group} for group in optimizer.param_groups
        ]
        self.own = own
        self.groups = groups_table(describe_groups(optimizer, module))
        config = scheduler_config(self.recipe.schedule, optimizer, self._total_steps, self._monitor, self._mode)
        if "monitor" in config:
            # in epochs without a validation there is no metric to follow
            config["frequency"] = module.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _configure_trainer(self, trainer: Any) -> None:
        """Set the recipe's fields on the Trainer; settings of the Trainer's own are kept and noted."""
        self.recipe, self.notes = self._asked_for, []
        precision = self.recipe.precision
        if precision is not None and _PRECISIONS.get(precision, precision) != trainer.precision:
            raise RecipeError(
                f"the recipe needs Trainer(precision={precision!r}), got precision={trainer.precision!r}. "
                "A Trainer's precision cannot be changed once it is made."
            )
        if varies_accumulation(trainer):
            self._drop_field("accumulate_grad_batches", 1, "the Trainer's GradientAccumulationScheduler stays")
        else:
            self._configure_field(trainer, "accumulate_grad_batches", "accumulate_grad_batches", 1)
        if self._info.own_clipping:
            self._drop_field("gradient_clip_norm", None, f"{self._info.name} bounds its steps itself")
        if getattr(trainer, "gradient_clip_algorithm", None) == "value":
            self._drop_field("gradient_clip_norm", None, "the Trainer clips by value")
        else:
            self._configure_field(trainer, "gradient_clip_norm", "gradient_clip_val", None)

    def _configure_field(self, trainer: Any, field: str, attribute: str, unset: int | None) -> None:
        wanted, present = getattr(self.recipe, field), getattr(trainer, attribute)
        if present == wanted:
            return
        if present == unset:
            self._trainer_settings.append((attribute, present))
            setattr(trainer, attribute, wanted)
        else:
            # a Trainer's clipping at 0 means none
            self._drop_field(field, present or unset, f"the Trainer's {attribute}={present} stays")

    def _drop_field(self, field: str, instead: Any, why: str) -> None:
        wanted = getattr(self.recipe, field)
        if wanted != instead:
            self.notes.append(f"{why}; the recipe's {field}={wanted} is left out")
            self.recipe = replace(self.recipe, **{field: instead})

    def _undo(self, trainer: Any) -> None:
        while self._trainer_settings:
            setattr(trainer, *self._trainer_settings.pop())
        if self._bound is not None:
            self._bound.restore()
            self._bound = None


def refuse_untunable(trainer: Any, module: Any) -> None:
    """Refuse a module whose optimizer cannot be replaced.

    Raises:
        ModelError: Manual optimization, or an optimizer that the strategy owns.
    """
    name = type(module).__name__
    if not module.automatic_optimization:
        raise ModelError(
            f"{name} uses manual optimization (automatic_optimization = False): it steps its optimizers itself, "
            "so none can be put in their place."
        )
    if "DeepSpeed" in type(trainer.strategy).__name__:
        raise ModelError(
            f"{name} trains under DeepSpeed, which owns the optimizer. Use the strategy auto, ddp or fsdp instead."
        )


def varies_accumulation(trainer: Any) -> bool:
    """Return whether a GradientAccumulationScheduler changes the batches of a step from epoch to epoch."""
    return any(type(callback).__name__ == "GradientAccumulationScheduler" for callback in trainer.callbacks)


def count_steps(trainer: Any) -> int:
    """Return the optimizer steps of the full length.

    Raises:
        ModelError: The Trainer cannot know them.
    """
    advice = "Give max_steps."
    if varies_accumulation(trainer) and trainer.max_epochs != -1:
        raise ModelError(
            f"the Trainer miscounts its steps under GradientAccumulationScheduler. {advice[:-1]}, and no max_epochs."
        )
    total = trainer.estimated_stepping_batches
    if trainer.max_steps == -1 and (added := batch_norm_epochs(trainer)):
        total = total * (trainer.max_epochs - added) // trainer.max_epochs
    if total == float("inf"):
        raise ModelError(f"the training has no end: neither max_steps nor max_epochs is set. {advice}")
    if total == 0 or trainer.limit_train_batches == 0:
        raise ModelError("there is nothing to train: max_steps=0, or no batches.")
    if total < 0:
        raise ModelError(f"the training data has no length (an IterableDataset), so its steps are unknown. {advice}")
    return int(total)
