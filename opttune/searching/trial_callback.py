"""`TrialCallback`: the door for an objective of the user's own, in their own Optuna study."""

import time
import traceback
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import optuna
from lightning.pytorch.utilities import rank_zero_info
from optuna.trial import TrialState

from opttune.catalog.lookup import find_optimizer
from opttune.errors import InputError, ModelError
from opttune.guard.callback import GuardCallback
from opttune.guard.rules import Guard
from opttune.guard.steps import StepRecord
from opttune.guard.stop import EarlyEnd
from opttune.namespaces import AnyCallback
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.searching.plan import read_mode
from opttune.searching.record import OUTCOME, RECIPE, TOTAL_STEPS, bad_value
from opttune.searching.trial_tracking import TrialTracking
from opttune.space.model import Space
from opttune.space.parse import load_space
from opttune.space.sample import sample_recipe
from opttune.training.attach import RecipeAttacher
from opttune.training.callbacks import CallbackGroup
from opttune.training.conclusion import Conclusion, conclude, guarded_fields
from opttune.training.finish import FinishWithValidation
from opttune.training.metrics import MetricsReporter, read_monitor
from opttune.training.modes import quirk_callbacks


class TrialCallback(CallbackGroup):
    """Trains one Optuna trial: samples its recipe, puts it in place, guards it, reports it, tracks it.

    The validations are reported to the trial with the optimizer step, and the study's pruner is heeded. The
    training ends in good order whatever happens; afterwards `result()` says what Optuna should hear.

    Args:
        trial: The trial of your objective, with any sampler; with `OpttuneSampler` it draws as `opttune.search`.
        space: What may vary: a space, the name of one that ships with opttune, or a file.
        monitor: The metric whose value at the end counts, as the module logs it.
        mode: `min` or `max`; the study's direction must be the same.
        guard: What stops a run that cannot come to anything: None or True the usual rules, False none.
        tracking: Where MLflow is; None for `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`; False for no
            tracking. Where the Trainer has an MLFlowLogger, its run is written to.

    Attributes:
        outcome: What came of the training, after `trainer.fit`.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> callback = TrialCallback(study.ask({}), "adamw", tracking=False)
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
    ) -> None:
        checked_mode = read_mode(mode)
        _check_direction(trial, mode)
        self.outcome: Outcome | None = None
        self._told = False
        self._trial, self._monitor, self._mode = trial, monitor, mode
        recipe = sample_recipe(space if isinstance(space, Space) else load_space(space), trial)
        self._attacher = RecipeAttacher(recipe, monitor, checked_mode)
        quirks = quirk_callbacks(find_optimizer(recipe.optimizer.name))
        self._tracking = None if tracking is False else TrialTracking(trial, None if tracking is True else tracking)
        settings = Guard.of(guard) or False
        self._guard = GuardCallback(settings, monitor=monitor, mode=mode, listener=self._hear_steps)
        self._finish = FinishWithValidation()
        self._pruning = _PruneAfterValidation(trial, monitor)
        self._started = 0.0
        reporter = MetricsReporter(self._hear_metrics)
        super().__init__(self._attacher, *quirks, self._guard, self._finish, reporter, self._pruning)

    @property
    def recipe(self) -> Recipe:
        """The sampled recipe; where the Trainer sets clipping or accumulation itself, with its values."""
        return self._attacher.recipe

    def result(self) -> float:
        """Return the trial's value, or raise what tells Optuna that it was pruned; the end of an objective.

        Raises:
            optuna.TrialPruned: The study's pruner or the guard ended the run. For a run that diverged the trial
                holds a finite bad value, so that the sampler learns from it.
            InputError: `trainer.fit` has not run yet.
        """
        if self.outcome is None:
            raise InputError("TrialCallback.result() is there after trainer.fit(model, ...), which has not run yet.")
        if self._tracking is not None:
            self._tracking.settle(self.outcome)
        if self.outcome.value is not None:
            return self.outcome.value
        if self.outcome.reason.is_hopeless and not self._told:
            self._told = True
            self._trial.set_user_attr(OUTCOME, self.outcome.to_dict())
            self._trial.report(bad_value(self.outcome, self._mode, _values(self._trial)), step=self._next_step())
        raise optuna.TrialPruned(self.outcome.message)

    def _next_step(self) -> int:
        # Optuna takes one report a step, and the last one for a pruned trial's value
        return max(0 if self.outcome is None else self.outcome.steps, self._pruning.last_step + 1)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Put the recipe in place.

        Raises:
            ModelError: The Trainer has several processes, each of which would train a recipe of its own.
        """
        if trainer.world_size > 1:
            raise ModelError(
                f"TrialCallback trains in one process, got a Trainer of {trainer.world_size}: each would sample "
                "its own recipe. Use devices=1; RecipeCallback trains on several."
            )
        super().setup(trainer, pl_module, stage)
        self._started = time.monotonic()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Say what was replaced, tell the trial what a pruner must know, and open the run in MLflow."""
        super().on_train_start(trainer, pl_module)
        self._trial.set_user_attr(RECIPE, self.recipe.to_dict())
        self._trial.set_user_attr(TOTAL_STEPS, self._finish.total_steps)
        rank_zero_info(f"opttune: replaced {self._attacher.replaced} by {self.recipe}")
        if self._tracking is not None:
            self._tracking.open(trainer.loggers, self.recipe, self._finish.total_steps)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Note the error; it goes its own way to the objective."""
        super().on_exception(trainer, pl_module, exception)
        interrupted = isinstance(exception, KeyboardInterrupt | SystemExit)
        reason = StopReason.INTERRUPTED if interrupted else StopReason.FAILED
        trace = "" if interrupted else "".join(traceback.format_exception(exception))
        self._end(trainer, reason, None, f"{type(exception).__name__}: {exception}", trace)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Note what came of the training."""
        super().teardown(trainer, pl_module, stage)
        if stage == "fit" and self.outcome is None:
            self._end(trainer, *self._how_it_ended(trainer))

    def _how_it_ended(self, trainer: Any) -> Conclusion:
        if self._guard.verdict is None and self._pruning.message:
            return StopReason.PRUNED, None, self._pruning.message
        return conclude(trainer, self._guard.verdict, self._monitor, self._finish.total_steps)

    def _end(self, trainer: Any, reason: StopReason, value: float | None, message: str, trace: str = "") -> None:
        seconds = time.monotonic() - self._started
        total = self._finish.total_steps
        self.outcome = Outcome(
            reason,
            value,
            trainer.global_step,
            total,
            seconds,
            message,
            trace,
            replaced=self._attacher.replaced,
            groups=self._attacher.groups,
            **guarded_fields(self._guard),
        )
        if self._tracking is not None:
            self._tracking.end(self.outcome)

    def _hear_steps(self, records: list[StepRecord]) -> None:
        if self._tracking is not None:
            self._tracking.steps(records)

    def _hear_metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._tracking is not None:
            self._tracking.metrics(step, values)


def _check_direction(trial: optuna.trial.BaseTrial, mode: str) -> None:
    if not isinstance(trial, optuna.Trial):
        return
    directions = [direction.name.lower() for direction in trial.study.directions]
    if directions != [f"{mode}imize"]:
        raise InputError(
            f"mode={mode!r} does not go with the study's direction ({', '.join(directions)}). "
            f'Make the study with optuna.create_study(direction="{mode}imize"), or give the other mode.'
        )


def _values(trial: optuna.trial.BaseTrial) -> list[float]:
    if not isinstance(trial, optuna.Trial):
        return []
    done = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [one.value for one in done if one.value is not None]


class _PruneAfterValidation(AnyCallback):
    """Reports each validation to a trial and heeds the study's pruner."""

    def __init__(self, trial: optuna.trial.BaseTrial, monitor: str) -> None:
        super().__init__()
        self.message = ""
        self.last_step = -1
        self._trial, self._monitor = trial, monitor
        self._early_end = EarlyEnd()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report, and end the training where the pruner says so."""
        if trainer.sanity_checking:
            return
        if self._monitor not in trainer.callback_metrics:
            # a metric of the training may still come at its epoch's end
            if trainer.current_epoch > 0 or self._monitor.startswith("val"):
                read_monitor(trainer.callback_metrics, self._monitor)
            return
        value = float(trainer.callback_metrics[self._monitor])
        # under accumulation several validations may stand at one step; Optuna takes the first
        if not isfinite(value) or trainer.global_step <= self.last_step:
            return
        self.last_step = trainer.global_step
        self._trial.report(value, step=self.last_step)
        # should_stop is set already at the end of the full length: a finished trial is not pruned
        if not trainer.should_stop and self._trial.should_prune():
            self.message = f"the study's pruner ended it at step {trainer.global_step}: {self._monitor} {value:.5g}"
            self._early_end.end(trainer, validate=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Put the Trainer's settings back."""
        self._early_end.restore()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Put the Trainer's settings back."""
        self._early_end.restore()
