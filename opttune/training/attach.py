"""Put a recipe in place of a module's own optimizers and schedules, for one fit.

`configure_optimizers` is bound on the instance in the `setup` hook and runs when the Trainer asks for it, because
the number of optimizer steps is not known before. After the fit the module is unchanged. A recipe that keeps the
module's own optimizers and schedules binds nothing.

A step is what the Trainer counts in `global_step`: under automatic optimization a step of the one optimizer, under
manual optimization a step of any. There each schedule is moved, with its optimizer's steps, to where the
training is: `global_step` as a share of the full length.
"""

from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

from opttune.build.module_facts import has_sparse_gradients
from opttune.build.optimizer import describe_optimizers, groups_table, refuse_unless
from opttune.build.own_knobs import knobs_of
from opttune.build.schedule import Mode, warmup_config
from opttune.catalog.check import check_recipe
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import InputError, ModelError, RecipeError, UnsuitableOptimizerError
from opttune.recipe import OWN, Recipe
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.namespaces import AnyCallback
from opttune.training.attached import AttachedOptimizer, recorded, state_problem
from opttune.training.length import count_steps, varies_accumulation
from opttune.training.own_optimizer import OwnConfiguration, ask_own_optimizers, describe, is_overridden

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
        own: What the module came with, once the fit has begun.
        groups: Table of the optimizers' parameter groups in Markdown, once the fit has begun.
        notes: Fields of the recipe that are not used, and why; one sentence each.
        module_notes: What of the module is replaced beside its optimizer; one sentence each.
    """

    def __init__(self, recipe: Recipe, monitor: str = "val_loss", mode: Mode = "min", is_strict: bool = False) -> None:
        super().__init__()
        check_recipe(recipe)
        self._monitor, self._mode, self._is_strict = monitor, mode, is_strict
        self.recipe = recipe
        self.own: OwnConfiguration | None = None
        self.groups = ""
        self.notes: list[str] = []
        self.module_notes: list[str] = []
        self._asked_for = recipe
        self._attached: tuple[AttachedOptimizer, ...] = ()
        self._trainer_settings: list[tuple[str, Any]] = []
        self._bound: list[ReplacedHook] = []
        self._watching: list[Any] = []
        self._loaded: dict[str, Any] | None = None
        self._first_step = self._steps_before = 0
        self._is_uncounted = False
        self._metric_before: Any = None
        self._follows_validations = False
        self._have_stepped: set[int] = set()

    @property
    def replaced(self) -> str:
        """The module's own optimizer in words; empty before the fit."""
        return self.own.words if self.own else ""

    @property
    def change(self) -> str:
        """What the recipe changes, in words."""
        if self.recipe.is_baseline:
            return f"{self.replaced} is kept with nothing moved"
        if self._keeps_all:
            return f"{self.replaced} stays, moved by {self.recipe.optimizer}"
        return f"replaced {self.replaced} by {self.recipe}"

    @property
    def _is_shared(self) -> bool:
        """Whether one part may be for several optimizers, some of which lack what it moves."""
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
                # with a warmup before a plateau the scheduler is there twice
                ours = found[0] if isinstance(found, list) and found else found
                return _ReadOnly(ours) if self._attached_of(ours) is not None else found
            # as many as the module itself has made, each in its place
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
        self._configure_trainer(trainer, pl_module)
        is_own = is_overridden(type(pl_module), "lr_scheduler_step") and pl_module.automatic_optimization
        is_replaced = is_own and not find_schedule(self.recipe.schedule.name).is_own
        self.module_notes = [_REPLACED_STEP.format(type(pl_module).__name__)] if is_replaced else []
        self.bind(pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the optimizers, where their curves began, and whether validations step them."""
        checkpoint[_KEY] = {
            "optimizer": self.recipe.optimizer.name,
            "optimizers": recorded(self._attached),
            "first_step": self._first_step,
            "follows_validations": self._follows_validations,
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note what the checkpoint holds."""
        self._loaded = checkpoint
        self._follows_validations = bool(checkpoint.get(_KEY, {}).get("follows_validations"))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Take a module's own optimizers as they are, and refuse the checkpoint of others.

        Raises:
            InputError: The state of a checkpoint cannot be loaded into the recipe's optimizers.
        """
        if self._keeps_all:
            self._take_own(trainer, pl_module)
        is_loaded_later = trainer.strategy.restore_checkpoint_after_setup
        if self._loaded is None and trainer.ckpt_path is not None and not is_loaded_later:
            # no hook is called for a checkpoint of weights alone
            self._loaded = {}
        if self._loaded is not None:
            self._refuse_other_checkpoint(self._loaded)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """In a resumed run, apply this fit's recipe and length from the current step on."""
        for attached in self._attached:
            attached.begin(is_resumed=self._loaded is not None)
            if attached.scheduler is not None:
                hook = _AfterStep(self, trainer, attached, moves=not pl_module.automatic_optimization)
                self._watching.append(attached.optimizer.register_step_post_hook(hook))
        self._loaded = None
        self._steps_before, self._is_uncounted = trainer.global_step, False
        if not pl_module.automatic_optimization and trainer.max_steps != -1:
            self._watching += [one.register_step_post_hook(self._note_step) for one in trainer.optimizers]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Refuse a module whose steps the Trainer does not see: its training would never end.

        Raises:
            ModelError: Optimizers step, and `global_step` stays where it is.
        """
        if self._is_uncounted and trainer.global_step == self._steps_before:
            raise ModelError(
                f"{type(pl_module).__name__} steps its optimizers past the Trainer, which counts no step and so never "
                f"ends at max_steps={trainer.max_steps}. Step what self.optimizers() returns, not an attribute and "
                "not self.optimizers(use_pl_optimizer=False)."
            )

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Put groups that were added on the recipe's curve, and look for sparse gradients in the first steps.

        Raises:
            UnsuitableOptimizerError: The optimizer does not take them.
        """
        if id(optimizer) not in self._have_stepped:
            self._have_stepped.add(id(optimizer))
            self._look_for_sparse_gradients(trainer, optimizer)
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
        """Find those of embeddings that are no layers of torch's: they show only now."""
        attached = next((one for one in self._attached if one.optimizer is optimizer), None)
        if attached is None or attached.info.is_own:
            return
        for group in optimizer.param_groups:
            if not any(parameter.grad is not None and parameter.grad.is_sparse for parameter in group["params"]):
                continue
            refuse_unless(attached.info.takes_sparse, attached.info, "has sparse gradients", "takes_sparse")
            if group.get("weight_decay"):
                raise ModelError(
                    "the model has sparse gradients, which take no weight decay: set weight_decay to 0 (in a space "
                    "file of your own), or use nn.Embedding(sparse=True), whose table gets none."
                )
            if trainer.gradient_clip_val == self.recipe.gradient_clip_norm:
                self._trainer_settings.append(("gradient_clip_val", trainer.gradient_clip_val))
                trainer.gradient_clip_val = None

    def _configure(self, module: Any, own: OwnConfiguration) -> Any:
        """Return what Lightning takes from `configure_optimizers`."""
        trainer = module.trainer
        loaded = None if self._loaded is None else self._loaded.get(_KEY, {})
        # a further fit of the same Trainer has one curve over the steps that are still to come
        self._first_step = trainer.global_step if loaded is None else loaded.get("first_step", 0)
        curve_steps = max(1, count_steps(trainer) - self._first_step)
        refuse_unless_own_fits(self.recipe, module, own)
        # parameters that the module's own optimizer leaves out stay untrained, such as a frozen backbone
        self._attached = tuple(
            AttachedOptimizer(
                recipe, module, one, [] if one is None else own.schedulers_of(one.optimizer), curve_steps,
                self._monitor, self._mode, self._is_strict, self._is_shared,
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
        """Take the optimizers that the module itself has made."""
        configs = tuple({"scheduler": config.scheduler} for config in trainer.lr_scheduler_configs)
        own = OwnConfiguration(describe(module, trainer.optimizers), configs)
        refuse_unless_own_fits(self.recipe, module, own)
        recipes = self.recipe.for_each(len(own.optimizers))
        self._attached = tuple(
            AttachedOptimizer(recipe, module, one, [], 1, self._monitor, self._mode, self._is_strict, self._is_shared)
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
        """Return what the module gets where it asks for a scheduler that it has made."""
        owners = [one.optimizer for one in self.own.optimizers] if self.own else []
        for optimizer, attached in zip(owners, self._attached, strict=True):
            if getattr(scheduler, "optimizer", None) is optimizer:
                return scheduler if attached.scheduler is None else _ReadOnly(attached.scheduler)
        return scheduler

    def _is_in_charge(self, trainer: Any, attached: AttachedOptimizer) -> bool:
        """Return whether the schedule is still the recipe's: StochasticWeightAveraging puts another in its place."""
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        first = next((one for one in schedulers if getattr(one, "optimizer", None) is attached.optimizer), None)
        return first is not None and first is attached.scheduler

    def _check_rates(self, trainer: Any, attached: AttachedOptimizer) -> None:
        if self._is_in_charge(trainer, attached):
            attached.check_rates(trainer.global_step + 1)

    def after_step(self, trainer: Any, attached: AttachedOptimizer, moves: bool) -> None:
        """Look at the rates of a step, and under manual optimization move the schedule, which no Trainer steps."""
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
                f"the checkpoint cannot be resumed with this recipe: {problem}. To start from its weights alone, load "
                'them before the fit, model.load_state_dict(torch.load(path)["state_dict"]), and leave out ckpt_path.'
            )

    def _configure_trainer(self, trainer: Any, module: Any) -> None:
        """Set the recipe's fields on the Trainer; settings of the Trainer's own are kept and noted."""
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
            self._trainer_settings.append((attribute, present))
            setattr(trainer, attribute, wanted)
        elif wanted != unset or not find_optimizer(self.recipe.optimizer.name).is_own:
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
        while self._watching:
            self._watching.pop().remove()
        for attached in self._attached:
            attached.release()
        self._loaded, self._attached = None, ()


class _AfterStep:
    """Called by an optimizer after each of its steps."""

    def __init__(self, attacher: RecipeAttacher, trainer: Any, attached: AttachedOptimizer, moves: bool) -> None:
        self._attacher, self._trainer, self._attached, self._moves = attacher, trainer, attached, moves

    def __call__(self, *_: Any) -> None:
        self._attacher.after_step(self._trainer, self._attached, self._moves)


class _ReadOnly:
    """The recipe's scheduler for code of the module, whose calls were meant for the scheduler that it replaces."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def step(self, *_: Any, **__: Any) -> None:
        """Do nothing: the Trainer, or the attacher, steps it."""

    step_update = step  # the name in timm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)


def refuse_untunable(trainer: Any, module: Any) -> None:
    """Refuse a module whose optimizer cannot be replaced.

    Raises:
        ModelError: An optimizer that the strategy owns.
    """
    if "DeepSpeed" in type(trainer.strategy).__name__:
        raise ModelError(
            f"{type(module).__name__} trains under DeepSpeed, which owns the optimizer. Use the strategy auto, ddp or "
            "fsdp instead."
        )


def refuse_unless_own_fits(recipe: Recipe, module: Any, own: OwnConfiguration) -> None:
    """Refuse a recipe that the module's own optimizers do not allow.

    Raises:
        ModelError: The recipe keeps them and there are none, or the module has several under automatic optimization,
            or one of several would need more of the training than steps.
    """
    name, count = type(module).__name__, len(own.optimizers)
    if count == 0 and any(find_optimizer(part.name).is_own for part in recipe.optimizer.split()):
        raise ModelError(f"the recipe keeps the module's own optimizer, and {name} has {own.problem}.")
    if count == 0 and not module.automatic_optimization:
        raise ModelError(
            f"{name} uses manual optimization, so that opttune takes from its configure_optimizers which optimizer "
            f"steps which parameters, and it has {own.problem}."
        )
    part = recipe.optimizer
    if count and part.name == OWN:
        known = {knob for one in own.optimizers for knob in knobs_of(one.optimizer)}
        for knob in [name for name, value in part.items() if value != 1 and name not in known]:
            raise ModelError(
                f"the recipe moves {knob} of the module's own optimizer, and {own.words} has none. Leave {knob} out."
            )
    if count > 1 and module.automatic_optimization:
        raise ModelError(
            f"{name} trains with {count} optimizers ({own.words}) under automatic optimization, which Lightning does "
            "not allow. Set self.automatic_optimization = False and step them in training_step."
        )
    if count > 1:
        for part in recipe.optimizer.split():
            info = find_optimizer(part.name)
            if info.needs_create_graph:
                raise UnsuitableOptimizerError(
                    f"optimizer {info.name!r} differentiates the gradients of one loss, and {name} has {count} "
                    f"optimizers ({own.words}). Take another one."
                )
