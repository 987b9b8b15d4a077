"""`TrialCallback`: opttune inside an objective of the user's own Optuna study."""

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from lightning.pytorch.utilities import rank_zero_info
from optuna.trial import TrialState

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
from opttune.training.callbacks import CallbackGroup, preparations
from opttune.training.ending import Conclusion, FinishWithValidation, agreed, conclude, guarded_fields, had_diverged
from opttune.training.finders import LeaveOutFinders
from opttune.training.metrics import MetricsReporter
from opttune.training.modes import quirk_callbacks


class TrialCallback(CallbackGroup):
    """Trains one Optuna trial: samples the recipe, attaches it, guards the training, reports and tracks it.

    Each validation is reported to the trial with its optimizer step, and the study's pruner may end the training.
    The training always ends cleanly; afterwards `result()` returns the value, or raises Optuna's exception for a
    pruned trial.

    Args:
        trial: The trial of your objective, with any sampler; `OpttuneSampler` draws as `opttune.search` does.
        space: What may vary: a space, the name of one that ships with opttune, or a file.
        monitor: The metric to optimize, under the name by which the module logs it; its value at the end counts.
        mode: `min` or `max`; the study's direction must be the same.
        guard: Rules that stop a diverging or stalled training: None or True for the defaults, False for none.
        tracking: Address of MLflow; None for `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`; False for no
            tracking. If the Trainer has an MLFlowLogger, the trial is written to its run.

    With several devices, the first rank samples, reports and asks the pruner, and all ranks train the same recipe.
    Under `ddp`, Lightning runs the script again for each rank, and each would ask a shared study for a trial. Give
    every rank beyond the first a study in memory, or train with `ddp_spawn`.

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
        self._spawn_result = SpawnResult()
        recipe = sample_recipe(space if isinstance(space, Space) else load_space(space), trial)
        self._tracking = None if tracking is False else TrialTracking(trial, None if tracking is True else tracking)
        settings = Guard.of(guard) or False
        self._guard = GuardCallback(settings, monitor=monitor, mode=mode, listener=self._on_steps)
        self._finish = FinishWithValidation()
        self._pruning = PruningCallback(trial, monitor)
        self._started = 0.0
        self._reporter = MetricsReporter(self._on_metrics)
        self._assemble(recipe)

    def _assemble(self, recipe: Recipe) -> None:
        self._attacher = RecipeAttacher(recipe, self._monitor, self._mode)
        quirks = quirk_callbacks(recipe)
        parts = (self._attacher, *quirks, self._guard, self._finish, self._reporter, self._pruning)
        super().__init__(LeaveOutFinders(), *preparations(), *parts)

    @property
    def outcome(self) -> Outcome | None:
        """The training's outcome; None before `trainer.fit`."""
        result = self._spawn_result.take()
        if result is not None:
            self._outcome = Outcome.from_dict(result["outcome"])
            self._pruning.tell_again(result["reports"])
            self._note_recipe(result["recipe"], self._outcome.total_steps)
        return self._outcome

    def _note_recipe(self, recipe: Mapping[str, Any], total_steps: int) -> None:
        self._trial.set_user_attr(RECIPE, dict(recipe))
        self._trial.set_user_attr(TOTAL_STEPS, total_steps)

    @property
    def recipe(self) -> Recipe:
        """The sampled recipe; clipping and accumulation are the Trainer's where it sets them itself."""
        return self._attacher.recipe

    def result(self) -> float:
        """Return the trial's value, to be returned by the objective, or raise `optuna.TrialPruned`.

        Raises:
            optuna.TrialPruned: The study's pruner or the guard ended the run. A trial that diverged reports a finite
                bad value, so that the sampler learns from it.
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
        """Attach the recipe; on several devices, all ranks attach that of the first rank.

        Raises:
            InputError: A rank beyond the first has asked a shared study for another trial.
        """
        if stage == "fit" and trainer.world_size > 1:
            asked_itself = not (trainer.is_global_zero or self._spawn_result.is_elsewhere) and is_shared(self._trial)
            refuse_further_trials(of_all_ranks(trainer, asked_itself))
            recipe = Recipe.from_dict(from_rank_zero(trainer, self.recipe.to_dict()))
            if not trainer.is_global_zero:
                self._tracking = None
                self._assemble(recipe)
        super().setup(trainer, pl_module, stage)
        self._started = time.monotonic()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Print what was replaced, store the recipe and the length in the trial, and open the run in MLflow."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self._note_recipe(self.recipe.to_dict(), self._finish.total_steps)
        rank_zero_info(f"opttune: replaced {self._attacher.replaced} by {self.recipe}")
        if self._tracking is not None:
            self._tracking.open(trainer.loggers, self.recipe, self._finish.total_steps)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Store the error as the outcome; Lightning raises it in the objective as well."""
        super().on_exception(trainer, pl_module, exception)
        interrupted = isinstance(exception, KeyboardInterrupt | SystemExit)
        has_diverged = not interrupted and had_diverged(trainer, self._guard, exception)
        reason = StopReason.NON_FINITE if has_diverged else StopReason.FAILED
        reason = StopReason.INTERRUPTED if interrupted else reason
        trace = "" if interrupted else "".join(traceback.format_exception(exception))
        self._end(trainer, reason, None, f"{type(exception).__name__}: {exception}", trace)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Store the training's outcome."""
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
            **guarded_fields(self._guard, reason is StopReason.NON_FINITE and bool(trace)),
        )
        if self._tracking is not None:
            self._tracking.end(self._outcome)
            if self._spawn_result.is_elsewhere:
                self._tracking.settle(self._outcome)
        if trainer.is_global_zero:
            result = {
                "outcome": self._outcome.to_dict(),
                "recipe": self.recipe.to_dict(),
                "reports": self._pruning.reports,
            }
            self._spawn_result.leave(result)

    def _on_steps(self, records: list[StepRecord]) -> None:
        if self._tracking is not None:
            self._tracking.steps(records)

    def _on_metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._tracking is not None:
            self._tracking.metrics(step, values)


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
