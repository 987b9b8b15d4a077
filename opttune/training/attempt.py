"""One attempt: train one recipe in a new Trainer and return the `Outcome`."""

import os
import time
import traceback
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from opttune.build.optimizer import state_bytes
from opttune.build.schedule import Mode
from opttune.errors import InputError, OpttuneError
from opttune.guard.callback import GuardCallback, has_finite_parameters
from opttune.guard.rules import Guard
from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.trainer.internals import begin_at_step_zero
from opttune.trainer.logger import add_logger
from opttune.trainer.namespaces import NAMESPACES, AnyCallback, trainer_class
from opttune.training.attach import RecipeAttacher
from opttune.training.callbacks import preparations
from opttune.training.data_order import DataOrder
from opttune.training.decayed_look import DecayToEnd
from opttune.training.ending import Conclusion, FinishWithValidation, agreed, conclude, guarded_fields, had_diverged
from opttune.training.errors import located, raise_if_disk_is_full, reason_of
from opttune.training.finders import LeaveOutFinders
from opttune.training.isolation import isolated
from opttune.training.metrics import MetricsReporter
from opttune.training.modes import quirk_callbacks
from opttune.training.pace import Pace
from opttune.training.pause import PauseAndResume, resume_arguments
from opttune.training.step_clock import StepClock
from opttune.training.stop import NEVER, KeepOwnSigterm, Stop
from opttune.training.workload import Workload

_QUIET_TRAINER = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "devices": 1,
}
# a Trainer refuses these callbacks if the setting is False
_CONTRADICTED = (("enable_checkpointing", "Checkpoint"), ("enable_progress_bar", "ProgressBar"))


class AttemptListener(Protocol):
    """Receives the reports of a running training; its methods must not block."""

    def steps(self, records: list[StepRecord]) -> None:
        """Receive the numbers of some optimizer steps."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Receive the metrics that the module logged, after a validation."""


class NullListener:
    """A listener that ignores everything."""

    def steps(self, records: list[StepRecord]) -> None:
        """Ignore them."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Ignore them."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One training run to do.

    Attributes:
        recipe: The recipe; None keeps the module's own optimizer.
        monitor: The metric whose last value is the result.
        seed: Seed of initial weights and data order.
        trainer: Arguments of the Trainer, including the length.
        guard: The rules that end it early; None for no guard.
        checkpoint: Path of the state at the end or the pause; None does not save.
        mode: Whether the metric should fall (`min`) or rise (`max`).
        until_step: Pause after this optimizer step; None, or at least the full length, trains to the end. The
            schedule is always that of the full length.
        resume_from: The checkpoint of a paused attempt with the same recipe and seed.
        stop_checkpoint: Path of the state if the attempt is stopped before its end; None does not save.
        look_steps: Optimizer steps, after the pause, in which a copy of the training decays its learning rate to the
            end of its schedule; the value at the pause is then the copy's. 0 uses the value at the pause itself.
        only_look: Whether the attempt was stopped in its look: `checkpoint` has the state at the pause, and only the
            look is repeated. The value of the outcome is then None if the look gives none.
    """

    recipe: Recipe | None
    monitor: str
    seed: int
    trainer: Mapping[str, Any] = field(default_factory=dict)
    guard: Guard | None = None
    checkpoint: Path | None = None
    mode: Mode = "min"
    until_step: int | None = None
    resume_from: Path | None = None
    stop_checkpoint: Path | None = None
    look_steps: int = 0
    only_look: bool = False


def run_attempt(attempt: Attempt, workload: Workload, listener: AttemptListener, stop: Stop = NEVER) -> Outcome:
    """Train one recipe and return its outcome.

    The global random state is restored afterwards, so a search has no side effects on it.

    Args:
        attempt: The attempt.
        workload: The user's model and data.
        listener: Receives steps and metrics.
        stop: Checked after each step; on a request the training saves its state and ends.

    Returns:
        The outcome. An error in the user's code gives `failed`, or `non_finite` if the training has diverged; a lack
        of memory gives `out_of_memory`, Ctrl-C `interrupted`.

    Raises:
        OpttuneError: The model cannot be tuned, the monitored metric is missing, or the disk is full.
    """
    started = time.monotonic()
    if attempt.only_look:
        look = look_ahead(attempt, workload, stop)
        return _outcome(attempt, look.run, (StopReason.PAUSED, look.value, ""), started, look)
    run = TrainingRun(attempt, listener, stop=stop)
    trace, has_diverged, looked = "", False, None
    with isolated(attempt.seed):
        try:
            run.fit(workload)
            conclusion = run.result()
            has_diverged = _has_diverged(run, conclusion)
            if conclusion[0] is StopReason.PAUSED and attempt.look_steps and attempt.checkpoint is not None:
                looked = look_ahead(attempt, workload, stop)
                _, at_pause, message = conclusion
                conclusion = StopReason.PAUSED, at_pause if looked.value is None else looked.value, message
        except OpttuneError:
            raise
        except (KeyboardInterrupt, SystemExit):
            conclusion = run.interrupted()
        except Exception as err:
            raise_if_disk_is_full(err)
            trace, reason = traceback.format_exc(), reason_of(err)
            has_diverged = reason is StopReason.FAILED and had_diverged(run.trainer, run.guard, err)
            conclusion = StopReason.NON_FINITE if has_diverged else reason, None, located(err)
        finally:
            run.clean_up()
    return _outcome(attempt, run, conclusion, started, looked, trace, has_diverged)


def _has_diverged(run: "TrainingRun", conclusion: Conclusion) -> bool:
    return conclusion[0] is StopReason.NON_FINITE and not has_finite_parameters(run.trainer.lightning_module)


def _outcome(
    attempt: Attempt,
    run: "TrainingRun",
    conclusion: Conclusion,
    started: float,
    look: "Look | None" = None,
    trace: str = "",
    has_diverged: bool = False,
) -> Outcome:
    reason, value, message = conclusion
    return Outcome(
        reason=reason,
        value=value,
        # several optimizers all step in the batch that passes a rung
        steps=attempt.until_step or 0 if reason is StopReason.PAUSED else run.steps_done,
        total_steps=run.total_steps,
        seconds=time.monotonic() - started,
        message=message,
        traceback=trace,
        replaced=run.replaced,
        groups=run.attacher.groups if run.attacher else "",
        state_bytes=run.state_bytes,
        look_steps=look.steps if look else 0,
        is_look_stopped=look is not None and look.is_stopped,
        step_seconds=run.clock.step_seconds,
        **guarded_fields(run.guard, has_diverged),
    )


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a paused training.

    Attributes:
        run: The copy.
        value: The value of the copy; None if it has none, for example because it diverged.
        steps: The optimizer steps that it did.
        is_stopped: Whether it was stopped before its end.
    """

    run: "TrainingRun"
    value: float | None
    steps: int
    is_stopped: bool


def look_ahead(attempt: Attempt, workload: Workload, stop: Stop) -> Look:
    """Train a copy of a paused training whose learning rate decays.

    Args:
        attempt: The paused attempt, with its state at `attempt.checkpoint`.
        workload: The user's model and data.
        stop: Checked after each step.
    """
    begin = attempt.until_step or 0
    ahead = replace(
        attempt,
        until_step=begin + attempt.look_steps,
        resume_from=attempt.checkpoint,
        checkpoint=None,
        stop_checkpoint=None,
    )
    run = TrainingRun(
        ahead, NullListener(), stop=stop, callbacks=(DecayToEnd(attempt.recipe, begin, attempt.look_steps),)
    )
    reason, value = StopReason.FAILED, None
    with isolated(attempt.seed):
        try:
            run.fit(workload)
            reason, value, _ = run.result()
        except (KeyboardInterrupt, SystemExit):
            reason = StopReason.INTERRUPTED
        except Exception as err:
            raise_if_disk_is_full(err)
            # a failure only here is not the recipe's fault
    has_value = reason in (StopReason.PAUSED, StopReason.COMPLETED)
    steps = max(0, run.steps_done - begin)
    return Look(run, value if has_value else None, steps, is_stopped=reason is StopReason.INTERRUPTED)


class TrainingRun:
    """The Trainer of one attempt and its callbacks.

    Args:
        attempt: The attempt.
        listener: Receives steps and metrics.
        stop_at_step: End after this optimizer step, or after the first batch for 0; None runs the full length.
        stop: Checked after each step.
        loads_in_process: Whether loaders use no worker processes, whose random numbers differ after each start.
        callbacks: Further callbacks.
    """

    def __init__(
        self,
        attempt: Attempt,
        listener: AttemptListener,
        stop_at_step: int | None = None,
        stop: Stop = NEVER,
        loads_in_process: bool = False,
        callbacks: Sequence[AnyCallback] = (),
    ) -> None:
        is_inspection = stop_at_step is not None
        self.attempt = attempt
        self.trainer: Any = None
        self.attacher = None
        self._quirks: tuple[AnyCallback, ...] = ()
        if attempt.recipe is not None:
            self.attacher = RecipeAttacher(attempt.recipe, attempt.monitor, attempt.mode, is_inspection)
            self._quirks = quirk_callbacks(attempt.recipe)
        self.guard = GuardCallback(
            attempt.guard or False, monitor=attempt.monitor, mode=attempt.mode, listener=listener.steps
        )
        self._finish = FinishWithValidation(stop_at_step)
        self.finders = LeaveOutFinders(warns=False)
        self.clock = StepClock()
        self._reporter = MetricsReporter(listener.metrics)
        self.pace = Pace() if is_inspection else None
        self._order = DataOrder(loads_in_process)
        self._follows_data = loads_in_process
        self._callbacks = callbacks
        # under a temporary name until it is known that the training pauses
        ends_paused = attempt.until_step is not None and attempt.checkpoint is not None
        path = attempt.checkpoint if ends_paused else attempt.stop_checkpoint
        self._part = path and path.with_name(f"{path.name}.part")
        is_resumed = attempt.resume_from is not None
        self._pause = PauseAndResume(attempt.until_step, self._part, is_resumed, self.guard, self._order, stop)

    @property
    def steps_done(self) -> int:
        """Optimizer steps done so far."""
        done = 0 if self.trainer is None else int(self.trainer.global_step)
        # epochs without training may follow
        return min(done, self.total_steps or done)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the full length, once the training has started."""
        return self._finish.total_steps

    @property
    def replaced(self) -> str:
        """The optimizer that the recipe replaced, in words; empty without a recipe."""
        return self.attacher.replaced if self.attacher else ""

    @property
    def state_bytes(self) -> int:
        """Bytes of the optimizers' state; 0 before the fit."""
        return 0 if self.trainer is None else sum(map(state_bytes, self.trainer.optimizers))

    def fit(self, workload: Workload) -> None:
        """Make the model, the data and the Trainer, in this order, and train."""
        model = workload.make_model()
        data = workload.make_data()
        self.trainer = self._make_trainer(model)
        if self.attacher is not None:
            self.attacher.bind(model)
        add_logger(self.trainer, model)
        how = resume_arguments(self.trainer, self.attempt.resume_from)
        if not how:
            begin_at_step_zero(self.trainer)
        pauses = self.attempt.until_step is not None or self.attempt.stop_checkpoint is not None
        if pauses or how or self._follows_data:
            data = self._order.watch(model, data)
        try:
            self.trainer.fit(model, **data, **how)
        except SystemExit as err:
            # Lightning ends the process on Ctrl-C
            if isinstance(err.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from err
            raise
        finally:
            self._order.release()

    def result(self) -> Conclusion:
        """Return the end of the fit, the same on every rank; save the checkpoint if there is a value."""
        if self._pause.paused and self._pause.is_stopped:
            return self.interrupted()
        conclusion = agreed(self.trainer, self._conclude)
        path = self.attempt.checkpoint
        if path is not None and conclusion[0] is StopReason.PAUSED:
            self._keep_part(path)
        elif path is not None and conclusion[0].has_value:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.trainer.save_checkpoint(path)
        return conclusion

    def interrupted(self) -> Conclusion:
        """Return the end of a stopped fit; keep its state if it was saved."""
        # after SIGTERM Lightning raises SystemExit even then
        if self._pause.paused and self._pause.is_stopped:
            self._keep_part(self.attempt.stop_checkpoint)
        return StopReason.INTERRUPTED, None, f"interrupted at step {self.steps_done}"

    def _conclude(self) -> Conclusion:
        paused, monitor = self._pause.paused, self.attempt.monitor
        return conclude(self.trainer, self.guard.decision, monitor, self.total_steps, paused)

    def _keep_part(self, path: Path | None) -> None:
        if path is not None and self._part is not None and self.trainer.is_global_zero:
            os.replace(self._part, path)

    def clean_up(self) -> None:
        """Remove the temporary state, if no pause has kept it."""
        if self._part is not None and (self.trainer is None or self.trainer.is_global_zero):
            self._part.unlink(missing_ok=True)

    def _make_trainer(self, model: Any) -> Any:
        given = dict(self.attempt.trainer)
        if self.attempt.recipe is not None and self.attempt.recipe.precision is not None:
            given["precision"] = self.attempt.recipe.precision
        # callbacks such as EarlyStopping keep state: each attempt gets its own
        theirs = deepcopy(given.pop("callbacks", None)) or []
        theirs = self.finders.without(theirs if isinstance(theirs, list) else [theirs])
        reads: tuple[AnyCallback, ...] = (self.guard, self._finish, self._reporter)
        ours: list[AnyCallback | None] = [*self._callbacks, self.attacher, *self._quirks, *reads, self.pace]
        settings = {**_QUIET_TRAINER, **_needed_by(theirs), **given}
        # the pause saves before any other callback acts on the end, and validates while the optimizer can still switch
        begins = (self.clock, self._pause, self.finders, KeepOwnSigterm(), *preparations())
        callbacks = [*begins, *theirs, *(each for each in ours if each is not None)]
        try:
            return trainer_class(model)(**settings, callbacks=callbacks)
        except Exception as err:
            raise InputError(f"the Trainer does not take {given}: {err}") from err


def _needed_by(callbacks: list[Any]) -> dict[str, bool]:
    """Return the settings without which a Trainer refuses the user's callbacks."""
    bases = {
        setting: tuple(getattr(namespace.callbacks, name) for namespace in NAMESPACES)
        for setting, name in _CONTRADICTED
    }
    return {
        setting: True for setting, base in bases.items() if any(isinstance(callback, base) for callback in callbacks)
    }
