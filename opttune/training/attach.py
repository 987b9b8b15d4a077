"""Put a recipe in place of a module's own optimizer and schedule, for one fit.

`configure_optimizers` is bound on the instance in the `setup` hook and runs when the Trainer asks for it, because
the number of optimizer steps is not known before. After the fit the module is unchanged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import Any

from opttune.build.late_groups import LateGroups, follow_groups, is_late, late_groups
from opttune.build.module_facts import has_sparse_gradients
from opttune.build.optimizer import (
    build_optimizer,
    describe_groups,
    first_full_rate,
    groups_for,
    groups_table,
    refuse_unless,
)
from opttune.build.schedule import Mode, multiplier, scheduler_config, warmup_config
from opttune.catalog.check import check_recipe, with_defaults
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import InputError, ModelError, RecipeError
from opttune.recipe import Recipe
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.internals import batch_norm_epochs
from opttune.trainer.namespaces import AnyCallback
from opttune.training.own_optimizer import OwnOptimizer, ask_own_optimizer, is_overridden
from opttune.training.rates import RateCheck

_KEY = "opttune.recipe"
_HOOKS = ("configure_optimizers", "lr_scheduler_step", "lr_schedulers")
_REPLACED_STEP = "{}.lr_scheduler_step belongs to the module's own scheduler and is replaced with it"
# what Lightning makes of these spellings
_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


class RecipeAttacher(AnyCallback):
    """Makes one fit train with a recipe.

    Args:
        recipe: The settings; they are checked against the catalog.
        monitor: Metric for a schedule that follows one.
        mode: Whether that metric is to fall or to rise.
        is_strict: Whether to refuse a module that sets the learning rate itself; else it gives a warning.

    Attributes:
        recipe: The settings in use. Where the Trainer sets clipping or accumulation itself, its values are kept.
        own: The module's own optimizer, once the fit has begun.
        groups: Table of the new optimizer's parameter groups in Markdown, once the fit has begun.
        notes: Fields of the recipe that are not used, and why; one sentence each.
        module_notes: What of the module is replaced beside its optimizer; one sentence each.
    """

    def __init__(self, recipe: Recipe, monitor: str = "val_loss", mode: Mode = "min", is_strict: bool = False) -> None:
        super().__init__()
        check_recipe(recipe)
        self._info = find_optimizer(recipe.optimizer.name)
        self._monitor, self._mode, self._is_strict = monitor, mode, is_strict
        self.recipe = recipe
        self.own: OwnOptimizer | None = None
        self.groups = ""
        self.notes: list[str] = []
        self.module_notes: list[str] = []
        self._asked_for = recipe
        self._curve_steps = 0
        self._group_options: list[dict[str, Any]] = []
        self._trainer_settings: list[tuple[str, Any]] = []
        self._bound: list[ReplacedHook] = []
        self._scheduler: Any = None
        self._late: LateGroups | None = None
        self._rates: RateCheck | None = None
        self._watching: Any = None
        self._loaded: dict[str, Any] | None = None
        self._first_step = 0
        self._metric_before: Any = None
        self._follows_validations = self._has_stepped = False

    @property
    def replaced(self) -> str:
        """The module's own optimizer in words; empty before the fit."""
        return self.own.words if self.own else ""

    def bind(self, module: Any) -> None:
        """Bind the recipe's `configure_optimizers` on a module, and the hooks of its schedule, unless it is done.

        A module without `configure_optimizers` needs this before `trainer.fit`: a Trainer refuses it before any hook
        is called.
        """
        if self._bound:
            return
        own, own_step, own_schedulers = (getattr(module, name) for name in _HOOKS)

        def configure_optimizers(module: Any) -> Any:
            return self._configure(module, ask_own_optimizer(own))

        def lr_scheduler_step(module: Any, scheduler: Any, metric: Any) -> None:
            if scheduler is not self._scheduler:
                own_step(scheduler, metric)
            elif self._is_in_charge(module.trainer) and (metric is None or not self._follows_validations):
                self._step_schedule(*([] if metric is None else [metric]))

        def lr_schedulers(module: Any) -> Any:
            found = own_schedulers()
            # with a warmup the scheduler is there twice
            ours = found[0] if isinstance(found, list) else found
            return _ReadOnly(ours) if ours is not None and ours is self._scheduler else found

        hooks: tuple[Callable[..., Any], ...] = (configure_optimizers, lr_scheduler_step, lr_schedulers)
        self._bound = [
            ReplacedHook(module, name, MethodType(hook, module)) for name, hook in zip(_HOOKS, hooks, strict=True)
        ]

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Bind the recipe."""
        if stage != "fit":
            return
        refuse_untunable(trainer, pl_module)
        self._loaded, self._follows_validations, self._has_stepped = None, False, False
        self._configure_trainer(trainer, pl_module)
        is_own = is_overridden(type(pl_module), "lr_scheduler_step")
        self.module_notes = [_REPLACED_STEP.format(type(pl_module).__name__)] if is_own else []
        self.bind(pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the optimizer, where its curve began, and whether validations step it."""
        checkpoint[_KEY] = {
            "optimizer": self._info.name,
            "first_step": self._first_step,
            "follows_validations": self._follows_validations,
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note what the checkpoint holds."""
        self._loaded = checkpoint
        self._follows_validations = bool(checkpoint.get(_KEY, {}).get("follows_validations"))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse the checkpoint of another optimizer.

        Raises:
            InputError: Its state cannot be loaded into the recipe's optimizer.
        """
        is_loaded_later = trainer.strategy.restore_checkpoint_after_setup
        if self._loaded is None and trainer.ckpt_path is not None and not is_loaded_later:
            # no hook is called for a checkpoint of weights alone
            self._loaded = {}
        if self._loaded is not None:
            refuse_other_checkpoint(self._loaded, trainer.optimizers[0], self.recipe, self.replaced)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """In a resumed run, apply this fit's recipe and length from the current step on."""
        optimizer = trainer.optimizers[0]
        if self._loaded is not None and not find_schedule(self.recipe.schedule.name).follows_monitor:
            # the checkpoint has restored the options and the rate of the recipe and length that it was saved with
            factor = multiplier(self.recipe.schedule, self._curve_steps)(self._scheduler.last_epoch)
            moved = self._group_options[0]["lr"] / (optimizer.param_groups[0]["initial_lr"] or 1.0)
            for group in late_groups(optimizer):
                group["initial_lr"] *= moved
                group["lr"] = group["initial_lr"] * factor
            for group, options in zip(optimizer.param_groups, self._group_options, strict=False):
                group.update(options, initial_lr=options["lr"], lr=options["lr"] * factor)
        follow_groups(self._scheduler)
        self._loaded = None
        if self._rates is not None:
            self._rates.begin()
        self._watching = optimizer.register_step_post_hook(lambda *_: self._check_rates(trainer))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Put groups that were added on the recipe's curve, and look for sparse gradients at the first step.

        Raises:
            UnsuitableOptimizerError: The optimizer does not take them.
        """
        if not self._has_stepped:
            self._has_stepped = True
            self._look_for_sparse_gradients(trainer, optimizer)
        if self._late is not None and self._is_in_charge(trainer):
            self._late.settle()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the metric before the validation."""
        self._metric_before = trainer.callback_metrics.get(self._monitor)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Step a schedule that follows the metric, if the validation has logged it."""
        metric = trainer.callback_metrics.get(self._monitor)
        if not find_schedule(self.recipe.schedule.name).follows_monitor or metric is None:
            return
        is_fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if is_fitting and metric is not self._metric_before and self._is_in_charge(trainer):
            self._follows_validations = True
            self._step_schedule(metric)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Look for hooks that have set the rate since the last step."""
        if self._is_strict:
            self._check_rates(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the module's own hooks."""
        self._undo(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module's own hooks."""
        self._undo(trainer)

    def _look_for_sparse_gradients(self, trainer: Any, optimizer: Any) -> None:
        """Find those of embeddings that are no layers of torch's: they show only now."""
        for group in optimizer.param_groups:
            if not any(parameter.grad is not None and parameter.grad.is_sparse for parameter in group["params"]):
                continue
            refuse_unless(self._info.takes_sparse, self._info, "has sparse gradients", "takes_sparse")
            if group.get("weight_decay"):
                raise ModelError(
                    "the model has sparse gradients, which take no weight decay: set weight_decay to 0 (in a space "
                    "file of your own), or use nn.Embedding(sparse=True), whose table gets none."
                )
            if trainer.gradient_clip_val == self.recipe.gradient_clip_norm:
                self._trainer_settings.append(("gradient_clip_val", trainer.gradient_clip_val))
                trainer.gradient_clip_val = None

    def _configure(self, module: Any, own: OwnOptimizer) -> Any:
        trainer = module.trainer
        loaded = None if self._loaded is None else self._loaded.get(_KEY, {})
        # a further fit of the same Trainer has one curve over the steps that are still to come
        self._first_step = trainer.global_step if loaded is None else loaded.get("first_step", 0)
        self._curve_steps = max(1, count_steps(trainer) - self._first_step)
        # parameters that the module's own optimizer leaves out stay untrained, such as a frozen backbone
        optimizer = build_optimizer(self.recipe, module, self._curve_steps, own.groups)
        names = with_defaults(self.recipe.optimizer, self._info)
        self._group_options = [
            {name: group[name] for name in names if name in group} for group in optimizer.param_groups
        ]
        self.own = own
        self.groups = groups_table(describe_groups(optimizer, module))
        config = scheduler_config(self.recipe.schedule, optimizer, self._curve_steps, self._monitor, self._mode)
        self._scheduler = config["scheduler"]
        if "monitor" in config:
            # in epochs without a validation there is no metric to follow
            config |= {"frequency": trainer.check_val_every_n_epoch or 1, "strict": False}
        self._late = LateGroups(
            optimizer,
            self._scheduler,
            lambda added: groups_for(added, self.recipe, module, self._curve_steps, optimizer),
            first_full_rate(self.recipe, optimizer),
        )
        self._rates = RateCheck(optimizer, len(optimizer.param_groups), self._is_strict)
        warmup = warmup_config(config)
        return [optimizer], [config, *([] if warmup is None else [warmup])]

    def _is_in_charge(self, trainer: Any) -> bool:
        """Return whether the schedule is still the recipe's: StochasticWeightAveraging puts another in its place."""
        return any(config.scheduler is self._scheduler for config in trainer.lr_scheduler_configs[:1])

    def _step_schedule(self, *metric: Any) -> None:
        self._scheduler.step(*metric)
        if self._rates is not None:
            self._rates.expect()

    def _check_rates(self, trainer: Any) -> None:
        if self._rates is not None and self._is_in_charge(trainer):
            self._rates.compare(trainer.global_step + 1)

    def _configure_trainer(self, trainer: Any, module: Any) -> None:
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
        while self._bound:
            self._bound.pop().restore()
        if self._watching is not None:
            self._watching.remove()
            self._watching = None
        self._loaded = self._late = self._rates = self._scheduler = None


class _ReadOnly:
    """The recipe's scheduler for code of the module, whose calls were meant for the scheduler that it replaces."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def step(self, *_: Any, **__: Any) -> None:
        """Do nothing: the Trainer steps it."""

    step_update = step  # the name in timm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)


def refuse_other_checkpoint(checkpoint: Mapping[str, Any], optimizer: Any, recipe: Recipe, own: str) -> None:
    """Refuse a checkpoint whose optimizer state is not that of the recipe's optimizer.

    Args:
        checkpoint: What was loaded.
        optimizer: The recipe's optimizer.
        recipe: The recipe.
        own: The module's own optimizer in words.

    Raises:
        InputError: It belongs to another optimizer, or to other parameter groups, or there is none.
    """
    name, states = recipe.optimizer.name, checkpoint.get("optimizer_states")
    saved = checkpoint.get(_KEY, {}).get("optimizer")
    if not states:
        problem = "it holds weights alone, and no state of an optimizer"
    elif saved is not None and saved != name:
        problem = f"it was saved by a training with {saved}, and the recipe trains with {name}"
    elif _shapes(states[0]["param_groups"]) != _shapes(optimizer.state_dict()["param_groups"]):
        others = f"the recipe's {name} has others"
        problem = (
            f"the module's own optimizer ({own}) saved it, and the recipe trains with {name}"
            if saved is None
            else f"its parameter groups were split in another way, and {others}"
        )
    else:
        return
    raise InputError(
        f"the checkpoint cannot be resumed with this recipe: {problem}. To start from its weights alone, load them "
        'before the fit, model.load_state_dict(torch.load(path)["state_dict"]), and leave out ckpt_path.'
    )


def _shapes(groups: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return what tells groups of one optimizer from those of another; late ones are left out."""
    return [(group.get("name"), len(group["params"])) for group in groups if not is_late(group)]


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
