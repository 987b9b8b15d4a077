"""`TrialCallback`: opttune inside the objective of the user's own Optuna study."""

import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import optuna
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from optuna.trial import TrialState

from opttune.errors import InputError, OpttuneError
from opttune.guard.callback import GuardCallback
from opttune.guard.rules import Guard
from opttune.guard.steps import StepRecord
from opttune.integration.pruning_callback import PruningCallback, is_shared, refuse_further_trials
from opttune.integration.trial_space import (
    DEFAULT_BUDGET,
    SpaceRequest,
    TrialSpace,
    are_far_apart,
    has_space,
    settle_early,
    settle_in_fit,
    share_in_study,
)
from opttune.integration.trial_tracking import TrialTracking
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.space.model import Space
from opttune.space.sample import sample_recipe
from opttune.storages.records import OUTCOME, RECIPE, TOTAL_STEPS, penalty_value
from opttune.study.config import read_mode
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.namespaces import AnyCallback
from opttune.trainer.ranks import from_rank_zero, is_launched_rank, of_all_ranks
from opttune.trainer.spawn_result import SpawnResult
from opttune.training.attach import RecipeAttacher
from opttune.training.callbacks import CallbackGroup, preparations
from opttune.training.ending import Conclusion, FinishWithValidation, agreed, conclude, guarded_fields, had_diverged
from opttune.training.finders import LeaveOutFinders
from opttune.training.metrics import MetricsReporter
from opttune.training.modes import quirk_callbacks


class TrialCallback(CallbackGroup):
    """Trains one Optuna trial: samples the recipe, attaches it, guards the training, reports and tracks it.

    The callback samples the recipe when the fit starts. Then the module, its data and its length are known, and a space
    means the same as in `opttune.search`. The first trial settles the space for all trials of the study, which keeps it
    in a user attribute. A trial that is more than twice as long, or less than half as long, is refused.

    The callback reports each validation to the trial with its optimizer step, and the study's pruner may end the
    training. The training always ends cleanly. Afterwards, `result()` returns the value, or raises Optuna's exception
    for a pruned trial.

    Args:
        trial: The trial of your objective, with any sampler; `OpttuneSampler` draws like `opttune.search`.
        space: The space to sample: a `Space`, the name of a shipped space, or a file.
        monitor: The metric to optimize, under the name in the module's log; its value at the end counts.
        mode: `min` or `max`; the study's direction must be the same.
        guard: Rules that stop a diverging or stalled training: None or True for the defaults, False for none.
        tracking: Address of MLflow; None for `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`; False for no
            tracking. If the Trainer has an MLFlowLogger, the trial is written to its run.
        max_steps: Optimizer steps of the training. The recipe is then sampled at once, so `recipe` is available before
            the Trainer is made, for example for its precision.
        model: The LightningModule, its class or a function that makes it. With `max_steps`, the space `auto` needs it.
        budget: Cost of the whole study in full trainings. A larger budget lets more fields of a shipped space vary. The
            default is that of `opttune.search`.

    Raises:
        OpttuneError: An argument is invalid; in `trainer.fit`, if the space does not suit the module or its length.

    With several devices, the first rank samples, reports and asks the pruner, and all ranks train the same recipe.
    Under `ddp`, Lightning runs the script again for each rank, and each would ask a shared study for a trial. Give
    every rank except the first a study in memory, or train with `ddp_spawn`.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> callback = TrialCallback(study.ask({}), "adamw", tracking=False, max_steps=300)
        >>> callback.recipe.optimizer.name
        'adamw'
    """

    def __init__(
        self,
        trial: optuna.trial.BaseTrial,
        space: str | Path | Space = "auto",
        *,
        monitor: str = "val_loss",
        mode: str = "min",
        guard: Guard | bool | None = None,
        tracking: str | bool | None = None,
        max_steps: int | None = None,
        model: Any = None,
        budget: float = DEFAULT_BUDGET,
    ) -> None:
        checked_mode = read_mode(mode)
        _check_direction(trial, mode)
        self._outcome: Outcome | None = None
        self._told = False
        self._trial, self._monitor, self._mode = trial, monitor, checked_mode
        self._spawn_result = SpawnResult()
        self._request = SpaceRequest.of(space, budget)
        self._early = settle_early(self._request, max_steps, model, type(self).__name__)
        self._tracking = None if tracking is False else TrialTracking(trial, None if tracking is True else tracking)
        settings = Guard.of(guard) or False
        self._guard = GuardCallback(settings, monitor=monitor, mode=mode, listener=self._on_steps)
        self._finish = FinishWithValidation()
        self._pruning = PruningCallback(trial, monitor)
        self._started = 0.0
        self._reporter = MetricsReporter(self._on_metrics)
        self._preparations = (LeaveOutFinders(), *preparations())
        self._attacher: RecipeAttacher | None = None
        self._sampled_space: TrialSpace | None = None
        self._asking: ReplacedHook | None = None
        self._checkpoint: dict[str, Any] | None = None
        super().__init__(*self._preparations, *self._observers)
        if self._early is not None and not is_launched_rank():
            self._assemble(self._sample(self._early))

    @property
    def _observers(self) -> tuple[AnyCallback, ...]:
        return self._guard, self._finish, self._reporter, self._pruning

    def _sample(self, space: TrialSpace) -> Recipe:
        """Sample the space of the study; if it has none yet, it takes this one."""
        self._sampled_space = share_in_study(self._trial, self._request, space)
        return sample_recipe(self._sampled_space.settled.space, self._trial)

    def _assemble(self, recipe: Recipe) -> tuple[AnyCallback, ...]:
        """Use a recipe from now on; return the callbacks that it needs."""
        self._attacher = RecipeAttacher(recipe, self._monitor, self._mode)
        needed = (self._attacher, *quirk_callbacks(recipe))
        self.parts = (*self._preparations, *needed, *self._observers)
        return needed

    @property
    def outcome(self) -> Outcome | None:
        """The training's outcome; None before `trainer.fit`."""
        self._read_spawned()
        return self._outcome

    def _read_spawned(self) -> None:
        """Take over the recipe and the reports of this callback's copy in a spawned process."""
        result = self._spawn_result.take()
        if result is None:
            return
        self._outcome = Outcome.from_dict(result["outcome"])
        if self._attacher is None and result["recipe"] is not None:
            if isinstance(self._trial, optuna.Trial):
                # as in an enqueued trial, so no sampler is asked
                self._trial._fixed_params = {**self._trial._fixed_params, **result["parameters"]}
            self._sample(TrialSpace.from_dict(result["space"]))
            self._assemble(Recipe.from_dict(result["recipe"]))
        self._pruning.tell_again(result["reports"])
        if result["recipe"] is not None:
            self._note_recipe(result["recipe"], self._outcome.total_steps)

    def _note_recipe(self, recipe: Mapping[str, Any], total_steps: int) -> None:
        self._trial.set_user_attr(RECIPE, dict(recipe))
        self._trial.set_user_attr(TOTAL_STEPS, total_steps)

    @property
    def recipe(self) -> Recipe:
        """The sampled recipe, with the Trainer's own values of clipping and accumulation, if it has any.

        Raises:
            InputError: It is not sampled yet.
        """
        if self._attacher is None:
            self._read_spawned()
        if self._attacher is None:
            raise InputError(
                "TrialCallback.recipe is sampled when trainer.fit starts, because the module and its length are known "
                "then: read it later, or give TrialCallback max_steps= (and model= for space='auto') to sample at once."
            )
        return self._attacher.recipe

    def result(self) -> float:
        """Return the trial's value for the objective to return, or raise `optuna.TrialPruned`.

        Raises:
            optuna.TrialPruned: The study's pruner or the guard ended the run. A diverged trial reports a finite bad
                value, from which the sampler learns.
            InputError: `trainer.fit` has not run yet.
        """
        outcome = self.outcome
        if outcome is None:
            raise InputError("TrialCallback.result() needs trainer.fit(model, ...) first, which has not run yet.")
        if self._tracking is not None:
            self._tracking.settle(outcome)
        if outcome.value is not None:
            return outcome.value
        if outcome.reason.is_infeasible and not self._told:
            self._told = True
            self._trial.set_user_attr(OUTCOME, outcome.to_dict())
            # Optuna accepts one report per step; the last one is a pruned trial's value
            step = max(outcome.steps, self._pruning.last_step + 1)
            self._trial.report(penalty_value(outcome, self._mode, _values(self._trial)), step=step)
        raise optuna.TrialPruned(outcome.message)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Attach the recipe; on several devices, all ranks attach the first rank's recipe.

        Raises:
            InputError: A rank beyond the first has asked a shared study for another trial.
        """
        if stage == "fit" and trainer.world_size > 1:
            asked_itself = not (trainer.is_global_zero or self._spawn_result.is_elsewhere) and is_shared(self._trial)
            refuse_further_trials(of_all_ranks(trainer, asked_itself))
        if stage == "fit" and not trainer.is_global_zero:
            self._tracking = None
        if stage == "fit" and self._early is not None:
            self._share_early(trainer, self._early)
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self._attacher is None:
            self._ask_in_fit(pl_module)
        self._started = time.monotonic()

    def _share_early(self, trainer: Any, space: TrialSpace) -> None:
        """Use the recipe that the first rank has sampled before the fit."""
        own = None if self._attacher is None else self._attacher.recipe
        recipe = _of_first_rank(trainer, lambda: own or self._sample(space))
        if own is None or not trainer.is_global_zero:
            self._assemble(recipe)

    def _ask_in_fit(self, module: Any) -> None:
        """Sample once the Trainer asks for the optimizer: then all layers, the loaders and the length are known."""

        def configure_optimizers(module: Any) -> Any:
            self._stop_asking()
            trainer = module.trainer
            # every rank counts and looks, since both may wait for the others'
            is_first = trainer.world_size > 1 or not has_space(self._trial, self._request)
            space = settle_in_fit(self._request, trainer, module, is_first)
            needed = self._assemble(_of_first_rank(trainer, lambda: self._sample(space)))
            checkpoint, self._checkpoint = self._checkpoint, None
            for part in needed:
                part.setup(trainer, module, "fit")
                if checkpoint is not None:
                    part.on_load_checkpoint(trainer, module, checkpoint)
            return module.configure_optimizers()

        self._asking = ReplacedHook(module, "configure_optimizers", MethodType(configure_optimizers, module))

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.restore()
            self._asking = None

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Notify the parts; the parts of the recipe are notified when it is sampled."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if self._attacher is None:
            self._checkpoint = checkpoint

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Print the replaced optimizer, store the recipe and the length in the trial, and open the MLflow run."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self._note_recipe(self.recipe.to_dict(), self._finish.total_steps)
        total_steps = self._finish.total_steps
        if self._early is not None and self._request.shipped and are_far_apart(self._early.total_steps, total_steps):
            rank_zero_warn(
                f"opttune: the recipe was sampled for a training of {self._early.total_steps} steps (max_steps), and "
                f"this one has {total_steps}: its learning rate may be far off."
            )
        if self._attacher is not None:
            rank_zero_info(f"opttune: {self._attacher.change}")
        if self._tracking is not None:
            self._tracking.open(trainer.loggers, self.recipe, self._finish.total_steps)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Store the error as the outcome; Lightning raises it in the objective as well."""
        self._stop_asking()
        super().on_exception(trainer, pl_module, exception)
        interrupted = isinstance(exception, KeyboardInterrupt | SystemExit)
        has_diverged = not interrupted and had_diverged(trainer, self._guard, exception)
        reason = StopReason.NON_FINITE if has_diverged else StopReason.FAILED
        reason = StopReason.INTERRUPTED if interrupted else reason
        trace = "" if interrupted else "".join(traceback.format_exception(exception))
        self._end(trainer, reason, None, f"{type(exception).__name__}: {exception}", trace)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Store the training's outcome."""
        self._stop_asking()
        super().teardown(trainer, pl_module, stage)
        if stage == "fit" and self._outcome is None:
            self._end(trainer, *agreed(trainer, lambda: self._how_it_ended(trainer)))

    def _how_it_ended(self, trainer: Any) -> Conclusion:
        if self._guard.decision is None and self._pruning.message:
            return StopReason.PRUNED, None, self._pruning.message
        return conclude(trainer, self._guard.decision, self._monitor, self._finish.total_steps)

    def _end(self, trainer: Any, reason: StopReason, value: float | None, message: str, trace: str = "") -> None:
        seconds = time.monotonic() - self._started
        total = self._finish.total_steps
        self._outcome = Outcome(
            reason,
            value,
            trainer.global_step,
            total,
            seconds,
            message,
            trace,
            replaced="" if self._attacher is None else self._attacher.replaced,
            groups="" if self._attacher is None else self._attacher.groups,
            **guarded_fields(self._guard, reason is StopReason.NON_FINITE and bool(trace)),
        )
        if self._tracking is not None:
            self._tracking.end(self._outcome)
            if self._spawn_result.is_elsewhere:
                self._tracking.settle(self._outcome)
        if trainer.is_global_zero:
            result = {
                "outcome": self._outcome.to_dict(),
                "recipe": None if self._attacher is None else self._attacher.recipe.to_dict(),
                "space": None if self._sampled_space is None else self._sampled_space.to_dict(),
                "parameters": self._trial.params,
                "reports": self._pruning.reports,
            }
            self._spawn_result.leave(result)

    def _on_steps(self, records: list[StepRecord]) -> None:
        if self._tracking is not None:
            self._tracking.steps(records)

    def _on_metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._tracking is not None:
            self._tracking.metrics(step, values)


def _of_first_rank(trainer: Any, sample: Callable[[], Recipe]) -> Recipe:
    """Return the recipe that the first rank samples; if it fails, all ranks raise its error."""
    recipe: Recipe | OpttuneError | None = None
    if trainer.is_global_zero or trainer.world_size == 1:
        try:
            recipe = sample()
        except OpttuneError as err:
            recipe = err
    recipe = from_rank_zero(trainer, recipe)
    if not isinstance(recipe, Recipe):
        raise recipe or InputError("TrialCallback: the first rank has sampled no recipe.")
    return recipe


def _check_direction(trial: optuna.trial.BaseTrial, mode: str) -> None:
    if not isinstance(trial, optuna.Trial):
        return
    directions = [direction.name.lower() for direction in trial.study.directions]
    if directions != [f"{mode}imize"]:
        raise InputError(
            f"mode={mode!r} contradicts the study's direction ({', '.join(directions)}). "
            f'Make the study with optuna.create_study(direction="{mode}imize"), or give the other mode.'
        )


def _values(trial: optuna.trial.BaseTrial) -> list[float]:
    if not isinstance(trial, optuna.Trial):
        return []
    done = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [one.value for one in done if one.value is not None]
