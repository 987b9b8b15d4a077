"""Replace a module's own optimizers and schedules with those of a recipe, for one fit.

The `setup` hook binds `configure_optimizers` on the instance. It runs when the Trainer asks for it, because the number
of optimizer steps is not known earlier. After the fit the module is unchanged. A recipe that keeps the module's own
optimizers and schedules binds nothing.

A step is one count of the Trainer's `global_step`: under automatic optimization a step of the one optimizer, under
manual optimization a step of any optimizer. There each schedule moves, with its optimizer's steps, to the position of
the training: `global_step` as a share of the full length.
"""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

from opttune.build.fused import use_fused
from opttune.build.optimizer import describe_optimizers, groups_table, refuse_unless
from opttune.build.schedule import Mode, warmup_config
from opttune.catalog.check import check_recipe
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import InputError, ModelError
from opttune.recipe import Recipe
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.namespaces import AnyCallback
from opttune.training.attached import AttachedOptimizer, recorded, state_problem
from opttune.training.length import count_steps
from opttune.training.own_optimizer import OwnConfiguration, ask_own_optimizers, describe, is_overridden
from opttune.training.refusals import refuse_unless_own_fits, refuse_untunable
from opttune.training.trainer_settings import TrainerSettings

_KEY = "opttune.recipe"
_HOOKS = ("configure_optimizers", "lr_scheduler_step", "lr_schedulers")
_REPLACED_STEP = "{}.lr_scheduler_step belongs to the module's own scheduler and is replaced with it"


class RecipeAttacher(AnyCallback):
    """Makes one fit train with a recipe.

    Args:
        recipe: The settings; they are checked against the catalog.
        monitor: Metric for a schedule that follows one.
        mode: Whether that metric should fall or rise.
        is_strict: Whether to refuse a module that sets the learning rate itself; else there is a warning.

    Attributes:
        own: The module's own optimizers and schedulers, once the fit has started.
        groups: Table of the optimizers' parameter groups in Markdown, once the fit has started.
        module_notes: Other replaced parts of the module, one sentence each.
    """

    def __init__(self, recipe: Recipe, monitor: str = "val_loss", mode: Mode = "min", is_strict: bool = False) -> None:
        super().__init__()
        check_recipe(recipe)
        self._monitor, self._mode, self._is_strict = monitor, mode, is_strict
        self._settings = TrainerSettings(recipe)
        self.own: OwnConfiguration | None = None
        self.groups = ""
        self.module_notes: list[str] = []
        self._attached: tuple[AttachedOptimizer, ...] = ()
        self._bound: list[ReplacedHook] = []
        self._watching: list[Any] = []
        self._loaded: dict[str, Any] | None = None
        self._first_step = self._steps_before = 0
        self._is_uncounted = False
        self._metric_before: Any = None
        self._follows_validations = False
        self._have_stepped: set[int] = set()

    @property
    def recipe(self) -> Recipe:
        """The settings in use, with the Trainer's own values of clipping and accumulation, if it has any."""
        return self._settings.recipe

    @property
    def notes(self) -> list[str]:
        """Unused fields of the recipe with the reasons, one sentence each."""
        return self._settings.notes

    @property
    def replaced(self) -> str:
        """The module's own optimizer in words; empty before the fit."""
        return self.own.words if self.own else ""

    @property
    def change(self) -> str:
        """The change by the recipe, in words."""
        if self.recipe.is_baseline:
            return f"{self.replaced} is kept with nothing moved"
        norm = self.recipe.gradient_clip_norm
        clipped = "" if norm is None else f", gradients clipped at a norm of {norm:g}"
        if self._keeps_all:
            return f"{self.replaced} is kept, {self._moved}{clipped}"
        return f"replaced {self.replaced} by {self.recipe}"

    @property
    def _moved(self) -> str:
        """The move of the module's own optimizer, in words."""
        moved = {name: value for name, value in self.recipe.optimizer.items() if value != 1}
        if moved.keys() == {"lr_factor"} and self.own is not None and len(self.own.optimizers) == 1:
            return f"with its learning rate times {moved['lr_factor']:g}"
        return f"moved by {self.recipe.optimizer}"

    @property
    def _is_shared(self) -> bool:
        """Whether one part may be for several optimizers, of which some lack its options."""
        return len(self.recipe.optimizer.split()) == 1

    @property
    def _keeps_all(self) -> bool:
        """Whether optimizers and schedules are the module's own."""
        return find_optimizer(self.recipe.optimizer.name).is_own and find_schedule(self.recipe.schedule.name).is_own

    def bind(self, module: Any) -> None:
        """Bind the recipe's `configure_optimizers` on a module, and the hooks of its schedule, unless it is done.

        A module without `configure_optimizers` needs this before `trainer.fit`: a Trainer refuses it before any hook
        is called.
        """
        if self._bound or self._keeps_all:
            return
        own, own_step, own_schedulers = (getattr(module, name) for name in _HOOKS)

        def configure_optimizers(module: Any) -> Any:
            return self._configure(module, ask_own_optimizers(module, own))

        def lr_scheduler_step(module: Any, scheduler: Any, metric: Any) -> None:
            attached = self._attached_of(scheduler)
            if attached is None:
                own_step(scheduler, metric)
            elif self._is_in_charge(module.trainer, attached) and (metric is None or not self._follows_validations):
                attached.step_schedule(*([] if metric is None else [metric]))

        def lr_schedulers(module: Any) -> Any:
            if module.automatic_optimization:
                found = own_schedulers()
                # with a warmup before a plateau the scheduler is given twice
                ours = found[0] if isinstance(found, list) and found else found
                return _ReadOnly(ours) if self._attached_of(ours) is not None else found
            # the same number as the module's own, each in its place
            schedulers = [self._in_place_of(config["scheduler"]) for config in self.own.schedulers] if self.own else []
            return schedulers if len(schedulers) > 1 else next(iter(schedulers), None)

        hooks: tuple[Callable[..., Any], ...] = (configure_optimizers, lr_scheduler_step, lr_schedulers)
        self._bound = [
            ReplacedHook(module, name, MethodType(hook, module)) for name, hook in zip(_HOOKS, hooks, strict=True)
        ]

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Bind the recipe."""
        if stage != "fit":
            return
        refuse_untunable(trainer, pl_module)
        self._loaded, self._follows_validations = None, False
        self._have_stepped.clear()
        self.own, self._attached = None, ()
        self._settings.configure(trainer, pl_module)
        is_own = is_overridden(type(pl_module), "lr_scheduler_step") and pl_module.automatic_optimization
        is_replaced = is_own and not find_schedule(self.recipe.schedule.name).is_own
        self.module_notes = [_REPLACED_STEP.format(type(pl_module).__name__)] if is_replaced else []
        self.bind(pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the optimizers, where their curves started, and whether validations step them."""
        checkpoint[_KEY] = {
            "optimizer": self.recipe.optimizer.name,
            "optimizers": recorded(self._attached),
            "first_step": self._first_step,
            "follows_validations": self._follows_validations,
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the contents of the checkpoint."""
        self._loaded = checkpoint
        self._follows_validations = bool(checkpoint.get(_KEY, {}).get("follows_validations"))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Take over a module's own optimizers, and refuse the checkpoint of other optimizers.

        Raises:
            InputError: The state of a checkpoint cannot be loaded into the recipe's optimizers.
        """
        if self._keeps_all:
            self._take_own(trainer, pl_module)
        is_loaded_later = trainer.strategy.restore_checkpoint_after_setup
        if self._loaded is None and trainer.ckpt_path is not None and not is_loaded_later:
            # no hook is called for a checkpoint with only weights
            self._loaded = {}
        if self._loaded is not None:
            self._refuse_other_checkpoint(self._loaded)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """In a resumed run, apply this fit's recipe and length from the current step on."""
        for attached in self._attached:
            attached.begin(is_resumed=self._loaded is not None)
            if attached.scheduler is not None:
                hook = partial(self._after_step, trainer, attached, not pl_module.automatic_optimization)
                self._watching.append(attached.optimizer.register_step_post_hook(hook))
        self._loaded = None
        self._steps_before, self._is_uncounted = trainer.global_step, False
        if not pl_module.automatic_optimization and trainer.max_steps != -1:
            self._watching += [one.register_step_post_hook(self._note_step) for one in trainer.optimizers]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Refuse a module whose steps the Trainer does not see: its training would never end.

        Raises:
            ModelError: Optimizers step, but `global_step` does not change.
        """
        if self._is_uncounted and trainer.global_step == self._steps_before:
            raise ModelError(
                f"{type(pl_module).__name__} steps its optimizers past the Trainer, which counts no step and so never "
                f"ends at max_steps={trainer.max_steps}. Step what self.optimizers() returns, not an attribute and "
                "not self.optimizers(use_pl_optimizer=False)."
            )

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Put groups that were added on the recipe's curve; at the first step look for sparse gradients, and fuse it.

        Raises:
            UnsuitableOptimizerError: The optimizer does not take them.
        """
        if id(optimizer) not in self._have_stepped:
            self._have_stepped.add(id(optimizer))
            self._look_for_sparse_gradients(trainer, optimizer)
            if any(one.optimizer is optimizer and not one.info.is_own for one in self._attached):
                use_fused(optimizer)
        for attached in self._attached:
            if attached.optimizer is optimizer and self._is_in_charge(trainer, attached):
                attached.settle_groups()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the metric before the validation."""
        self._metric_before = trainer.callback_metrics.get(self._monitor)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Step the schedules that follow the metric, if the validation has logged it."""
        metric = trainer.callback_metrics.get(self._monitor)
        is_fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if metric is None or not is_fitting or metric is self._metric_before:
            return
        for attached in self._attached:
            if attached.follows_monitor and self._is_in_charge(trainer, attached):
                self._follows_validations = True
                attached.step_schedule(metric)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Look for hooks that have set the rate since the last step."""
        for attached in self._attached if self._is_strict else ():
            self._check_rates(trainer, attached)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the module's own hooks."""
        self._undo(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module's own hooks."""
        self._undo(trainer)

    def _note_step(self, *_: Any) -> None:
        self._is_uncounted = True

    def _look_for_sparse_gradients(self, trainer: Any, optimizer: Any) -> None:
        """Find sparse gradients of embeddings that are not torch's layers, which show only now."""
        attached = next((one for one in self._attached if one.optimizer is optimizer), None)
        if attached is None or attached.info.is_own:
            return
        for group in optimizer.param_groups:
            if not any(parameter.grad is not None and parameter.grad.is_sparse for parameter in group["params"]):
                continue
            refuse_unless(attached.info.takes_sparse, attached.info, "has sparse gradients", "takes_sparse")
            if group.get("weight_decay"):
                raise ModelError(
                    "the model has sparse gradients, which take no weight decay: set weight_decay to 0 (in your own "
                    "space file), or use nn.Embedding(sparse=True), whose table gets no weight decay."
                )
            self._settings.leave_out_clipping(trainer)

    def _configure(self, module: Any, own: OwnConfiguration) -> Any:
        """Return the result of `configure_optimizers` for Lightning."""
        trainer = module.trainer
        loaded = None if self._loaded is None else self._loaded.get(_KEY, {})
        # a further fit of the same Trainer has one curve over the steps that are still to come
        self._first_step = trainer.global_step if loaded is None else loaded.get("first_step", 0)
        curve_steps = max(1, count_steps(trainer) - self._first_step)
        refuse_unless_own_fits(self.recipe, module, own)
        # parameters that the module's own optimizer leaves out stay untrained, such as a frozen backbone
        self._attached = tuple(
            AttachedOptimizer(
                recipe, module, one, curve_steps, self._monitor, self._mode, self._is_strict, self._is_shared
            )
            for recipe, one in zip(
                self.recipe.for_each(max(1, len(own.optimizers))), own.optimizers or (None,), strict=True
            )
        )  # fmt: skip
        self.own = own
        self._describe_groups(module)
        optimizers = [attached.optimizer for attached in self._attached]
        configs = [config for attached in self._attached for config in self._scheduler_configs(trainer, attached)]
        kept = {id(one.optimizer) for one in self._attached if one.scheduler is None}
        configs += [dict(one) for one in own.schedulers if id(getattr(one["scheduler"], "optimizer", None)) in kept]
        return optimizers, configs

    def _scheduler_configs(self, trainer: Any, attached: AttachedOptimizer) -> list[dict[str, Any]]:
        if not trainer.lightning_module.automatic_optimization and attached.config:
            # Lightning would warn of the rest, which it does not use
            return [{"scheduler": attached.scheduler}]
        if not attached.follows_monitor:
            return [attached.config] if attached.config else []
        # in epochs without a validation there is no metric to follow
        config = attached.config | {"frequency": trainer.check_val_every_n_epoch or 1, "strict": False}
        warmup = warmup_config(config)
        return [config] if warmup is None else [config, warmup]

    def _take_own(self, trainer: Any, module: Any) -> None:
        """Take over the module's own optimizers."""
        configs = tuple({"scheduler": config.scheduler} for config in trainer.lr_scheduler_configs)
        own = OwnConfiguration(describe(module, trainer.optimizers, configs), configs)
        refuse_unless_own_fits(self.recipe, module, own)
        recipes = self.recipe.for_each(len(own.optimizers))
        self._attached = tuple(
            AttachedOptimizer(recipe, module, one, 1, self._monitor, self._mode, self._is_strict, self._is_shared)
            for recipe, one in zip(recipes, own.optimizers, strict=True)
        )
        self.own = own
        self._describe_groups(module)

    def _describe_groups(self, module: Any) -> None:
        names = [one.name for one in self.own.optimizers] if self.own and len(self._attached) > 1 else [""]
        optimizers = [attached.optimizer for attached in self._attached]
        self.groups = groups_table(describe_optimizers(list(zip(names, optimizers, strict=True)), module))

    def _attached_of(self, scheduler: Any) -> AttachedOptimizer | None:
        """Return the optimizer of one of the recipe's schedulers; None for any other."""
        return next((one for one in self._attached if scheduler is not None and one.scheduler is scheduler), None)

    def _in_place_of(self, scheduler: Any) -> Any:
        """Return the object that replaces the module's own scheduler."""
        owners = [one.optimizer for one in self.own.optimizers] if self.own else []
        for optimizer, attached in zip(owners, self._attached, strict=True):
            if getattr(scheduler, "optimizer", None) is optimizer:
                return scheduler if attached.scheduler is None else _ReadOnly(attached.scheduler)
        return scheduler

    def _is_in_charge(self, trainer: Any, attached: AttachedOptimizer) -> bool:
        """Return whether the schedule is still the recipe's, because StochasticWeightAveraging replaces it."""
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        first = next((one for one in schedulers if getattr(one, "optimizer", None) is attached.optimizer), None)
        return first is not None and first is attached.scheduler

    def _check_rates(self, trainer: Any, attached: AttachedOptimizer) -> None:
        if self._is_in_charge(trainer, attached):
            attached.check_rates(trainer.global_step + 1)

    def _after_step(self, trainer: Any, attached: AttachedOptimizer, moves: bool, *_: Any) -> None:
        """Check the rates of a step, and move the schedule under manual optimization, where no Trainer steps it."""
        self._check_rates(trainer, attached)
        if moves:
            # the Trainer counts the step after this hook
            attached.move_schedule(trainer.global_step + 1 - self._first_step)

    def _refuse_other_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        noted = checkpoint.get(_KEY, {})
        saved = noted.get("optimizers") or ([noted["optimizer"]] if "optimizer" in noted else [])
        states = checkpoint.get("optimizer_states") or []
        if states and not saved and self._keeps_all:
            return
        if problem := state_problem(states, saved, self._attached, self.replaced):
            raise InputError(
                f"the checkpoint cannot be resumed with this recipe: {problem}. To start only from its weights, load "
                'them before the fit, model.load_state_dict(torch.load(path)["state_dict"]), and leave out ckpt_path.'
            )

    def _undo(self, trainer: Any) -> None:
        self._settings.restore(trainer)
        while self._bound:
            self._bound.pop().restore()
        while self._watching:
            self._watching.pop().remove()
        for attached in self._attached:
            attached.release()
        self._loaded, self._attached = None, ()


class _ReadOnly:
    """The recipe's scheduler for the module's code, whose calls are for the replaced scheduler."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def step(self, *_: Any, **__: Any) -> None:
        """Do nothing: the Trainer, or the attacher, steps it."""

    step_update = step  # the name in timm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)
