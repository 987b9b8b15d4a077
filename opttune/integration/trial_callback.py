"""`TrialCallback`: the door for an objective of the user's own, in their own Optuna study."""

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from lightning.pytorch.utilities import rank_zero_info
from optuna.trial import TrialState

from opttune.catalog.lookup import find_optimizer
from opttune.errors import InputError
from opttune.guard.callback import GuardCallback
from opttune.guard.rules import Guard
from opttune.guard.steps import StepRecord
from opttune.integration.pruning_callback import PruningCallback, is_shared, refuse_further_trials
from opttune.integration.trial_tracking import TrialTracking
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.space.model import Space
from opttune.space.parse import load_space
from opttune.space.sample import sample_recipe
from opttune.storages.records import OUTCOME, RECIPE, TOTAL_STEPS, penalty_value
from opttune.study.config import read_mode
from opttune.trainer.ranks import from_rank_zero, of_all_ranks
from opttune.trainer.spawn_result import SpawnResult
from opttune.training.attach import RecipeAttacher
from opttune.training.callbacks import CallbackGroup
from opttune.training.ending import Conclusion, FinishWithValidation, agreed, conclude, guarded_fields
from opttune.training.metrics import MetricsReporter
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

    With several devices the first rank samples, reports and asks the pruner, and all train the same recipe. Under
    `ddp`, where Lightning runs the script again for each rank, a study that the processes share would be asked by
    each of them: give those beyond the first one of their own, or train with `ddp_spawn`.

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
        self._outcome: Outcome | None = None
        self._told = False
        self._trial, self._monitor, self._mode = trial, monitor, checked_mode
        self._handover = SpawnResult()
        recipe = sample_recipe(space if isinstance(space, Space) else load_space(space), trial)
        self._tracking = None if tracking is False else TrialTracking(trial, None if tracking is True else tracking)
        settings = Guard.of(guard) or False
        self._guard = GuardCallback(settings, monitor=monitor, mode=mode, listener=self._hear_steps)
        self._finish = FinishWithValidation()
        self._pruning = PruningCallback(trial, monitor)
        self._started = 0.0
        self._reporter = MetricsReporter(self._hear_metrics)
        self._assemble(recipe)

    def _assemble(self, recipe: Recipe) -> None:
        self._attacher = RecipeAttacher(recipe, self._monitor, self._mode)
        quirks = quirk_callbacks(find_optimizer(recipe.optimizer.name))
        super().__init__(self._attacher, *quirks, self._guard, self._finish, self._reporter, self._pruning)

    @property
    def outcome(self) -> Outcome | None:
        """What came of the training; None before `trainer.fit`."""
        told = self._handover.take()
        if told is not None:
            self._outcome = Outcome.from_dict(told["outcome"])
            self._pruning.tell_again(told["reports"])
            self._note_recipe(told["recipe"], self._outcome.total_steps)
        return self._outcome

    def _note_recipe(self, recipe: Mapping[str, Any], total_steps: int) -> None:
        self._trial.set_user_attr(RECIPE, dict(recipe))
        self._trial.set_user_attr(TOTAL_STEPS, total_steps)

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
        outcome = self.outcome
        if outcome is None:
            raise InputError("TrialCallback.result() is there after trainer.fit(model, ...), which has not run yet.")
        if self._tracking is not None:
            self._tracking.settle(outcome)
        if outcome.value is not None:
            return outcome.value
        if outcome.reason.is_infeasible and not self._told:
            self._told = True
            self._trial.set_user_attr(OUTCOME, outcome.to_dict())
            # Optuna takes one report a step, and the last one for a pruned trial's value
            step = max(outcome.steps, self._pruning.last_step + 1)
            self._trial.report(penalty_value(outcome, self._mode, _values(self._trial)), step=step)
        raise optuna.TrialPruned(outcome.message)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Put the recipe in place; on several devices that of the first rank, which speaks for all.

        Raises:
            InputError: A process beyond the first has asked a shared study for a trial of its own.
        """
        if stage == "fit" and trainer.world_size > 1:
            asked_itself = not (trainer.is_global_zero or self._handover.is_elsewhere) and is_shared(self._trial)
            refuse_further_trials(of_all_ranks(trainer, asked_itself))
            recipe = Recipe.from_dict(from_rank_zero(trainer, self.recipe.to_dict()))
            if not trainer.is_global_zero:
                self._tracking = None
                self._assemble(recipe)
        super().setup(trainer, pl_module, stage)
        self._started = time.monotonic()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Say what was replaced, tell the trial what a pruner must know, and open the run in MLflow."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self._note_recipe(self.recipe.to_dict(), self._finish.total_steps)
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
            replaced=self._attacher.replaced,
            groups=self._attacher.groups,
            **guarded_fields(self._guard),
        )
        if self._tracking is not None:
            self._tracking.end(self._outcome)
            if self._handover.is_elsewhere:
                self._tracking.settle(self._outcome)
        if trainer.is_global_zero:
            told = {
                "outcome": self._outcome.to_dict(),
                "recipe": self.recipe.to_dict(),
                "reports": self._pruning.reports,
            }
            self._handover.leave(told)

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
