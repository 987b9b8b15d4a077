"""The Lightning callback around the rules, which gathers and reads the losses and stops the run."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import torch

from opttune.errors import InputError
from opttune.guard.history import RunHistory
from opttune.guard.rules import Guard, StopDecision
from opttune.guard.steps import StepGatherer, StepRecord
from opttune.outcome import StopReason
from opttune.trainer.early_end import EarlyEnd
from opttune.trainer.metrics import as_number
from opttune.trainer.namespaces import AnyCallback
from opttune.trainer.ranks import SharedDecision, from_rank_zero
from opttune.trainer.spawn_result import SpawnResult

RecordsListener = Callable[[list[StepRecord]], None]
_ACTIONS = ("stop", "warn")


class GuardCallback(AnyCallback):
    """Stops a training run that diverges or stalls in its first steps. It works without a search.

    A stopped run ends normally: `trainer.fit` returns without a last validation, and `decision` gives the reason. With
    several devices, rank 0 decides from its own losses, and all ranks stop at the same step.

    Args:
        guard: The settings; None for the default ones.
        action: `stop` ends the run; `warn` only reports, and the run continues.
        monitor: The metric whose improvement vetoes a stall, under the name in the module's log of validations.
        mode: Whether that metric should fall (`min`) or rise (`max`).
        listener: For tracking, a function that receives the numbers of each step when they are read. The callback then
            does not warn.

    Raises:
        InputError: An argument is not one of the allowed values, or `guard` is False.

    Example:
        >>> callback = GuardCallback(action="warn")
        >>> callback.decision is None
        True
    """

    def __init__(
        self,
        guard: Guard | bool | None = None,
        *,
        action: str = "stop",
        monitor: str = "val_loss",
        mode: str = "min",
        listener: RecordsListener | None = None,
    ) -> None:
        super().__init__()
        self.guard = Guard.of(guard)
        if self.guard is None and listener is None:
            raise InputError("GuardCallback: guard=False guards nothing; leave the callback out.")
        for name, value, allowed in (("action", action, _ACTIONS), ("mode", mode, ("min", "max"))):
            if value not in allowed:
                raise InputError(f"GuardCallback: {name} must be one of {', '.join(allowed)}, got {value!r}.")
        self._action, self._monitor, self._mode = action, monitor, mode
        self._listener = listener
        self._early_end = EarlyEnd()
        self._spawn_result = SpawnResult()
        self._reset(0, 0, self.guard)

    def _reset(self, step: int, total_steps: int, guard: Guard | None, falls_first: bool = False) -> None:
        self._gatherer = StepGatherer(
            self._listener is not None or (self.guard is not None and self.guard.watch_grad_norm)
        )
        self._history: RunHistory | None = None
        if guard is not None:
            self._history = RunHistory(guard, total_steps, self._mode, step == 0, falls_first)
        self._shared = SharedDecision()
        self._step = step
        self._decision: StopDecision | None = None
        self._found: StopDecision | None = None

    @property
    def decision(self) -> StopDecision | None:
        """The decision that stopped the run, or would have with the action `stop`; else None."""
        left = self._spawn_result.take()
        if left is not None:
            self._decision = StopDecision(**{**left, "reason": StopReason(left["reason"])})
        return self._decision

    @property
    def verdict(self) -> StopDecision | None:
        """The former name of `decision`."""
        warnings.warn("GuardCallback.verdict is now called decision.", DeprecationWarning, stacklevel=2)
        return self.decision

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self._gatherer.lr

    @property
    def alarms(self) -> tuple[str, ...]:
        """The alarms, which do not end the run, one sentence each."""
        return () if self._history is None else self._history.alarms

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Reset the guard to the step that a resumed run has reached."""
        is_manual = not pl_module.automatic_optimization
        # under manual optimization it counts batches
        total = trainer.max_steps if is_manual else trainer.estimated_stepping_batches
        length = int(total) if 0 < total < float("inf") else 0
        self._reset(trainer.global_step, length, _judged(self.guard, pl_module), falls_first=is_manual)
        if is_manual and self._history is not None:
            # training_step may return no loss at all
            self._gatherer.with_grad_norm = True
        if _shards_gradients(trainer):
            # the norm of a rank's shard is not the norm of the whole
            self._gatherer.with_grad_norm = False

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Note the learning rate and the gradients of the next step."""
        self._gatherer.before_step(optimizer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the batch, and apply the rules at the end of an optimizer step."""
        gatherer = self._gatherer
        gatherer.add_batch(outputs, trainer.accumulate_grad_batches)
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        gatherer.end_step(self._step)
        is_alone = trainer.world_size == 1
        if is_alone and gatherer.is_on_cpu:
            self._take(gatherer.read(), trainer, pl_module)
            self._stop_if(trainer, self._found is not None)
            return
        is_time = len(gatherer) >= (self.guard.read_every_steps if self.guard else 10)
        if is_time:
            gatherer.send()
        self._take(gatherer.take(), trainer, pl_module)
        if is_alone or is_time:
            self._stop_if(trainer, self._shared.share(trainer, self._found is not None))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the monitored metric, which may veto a stall."""
        if self._history is None or trainer.sanity_checking or not self._history.wants_validations:
            return
        value = as_number(trainer.callback_metrics.get(self._monitor))
        if value is not None:
            self._history.add_validation(value)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Read and report the steps that have not been read yet."""
        self._take(self._gatherer.read(), trainer, pl_module)
        self._stop_if(trainer, from_rank_zero(trainer, self._found is not None))

    def progress(self) -> dict[str, Any]:
        """Return the history so far as plain values, to pause the training."""
        return {} if self._history is None else self._history.progress()

    def has_diverged(self, pl_module: Any) -> bool:
        """Return whether the last losses or the parameters are not finite, after an error has ended the run."""
        records = self._gatherer.read()
        if records and self._listener is not None:
            self._listener(records)
        found = self._decision or self._found
        return (
            any(record.loss is not None and not isfinite(record.loss) for record in records)
            or (found is not None and found.reason is StopReason.NON_FINITE)
            or not has_finite_parameters(pl_module)
        )

    def resume_from(self, progress: Mapping[str, Any]) -> None:
        """Restore the history of `progress`, after `on_train_start` of the resumed training."""
        if self._history is not None and progress:
            self._history.resume_from(progress)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the Trainer's settings."""
        self._early_end.restore()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the Trainer's settings."""
        self._early_end.restore()
        # with a listener the decision is known already
        if self._decision is not None and trainer.is_global_zero and self._listener is None:
            self._spawn_result.leave({**asdict(self._decision), "reason": str(self._decision.reason)})

    def _take(self, records: list[StepRecord], trainer: Any, module: Any) -> None:
        """Pass the records to the listener, and find whether the run must end."""
        if not records:
            return
        if self._listener is not None:
            self._listener(records)
        if self._history is None or self._found is not None:
            return
        skips = getattr(trainer.precision_plugin, "scaler", None) is not None
        for record in records:
            decision = self._history.add(record, skips) or self._check_gradients(record, skips, module)
            if decision is not None and self._action == "stop":
                self._found = decision
                break
            if decision is not None:
                self._history.retire_rule(decision.reason)
                self._decision = self._decision or decision
                self._warn(trainer, f"would stop the training {_explained(decision)}")
        self._warn_of_alarms(trainer)

    def _check_gradients(self, record: StepRecord, skips_steps: bool, module: Any) -> StopDecision | None:
        """Return a decision if non-finite gradients have reached the parameters, which a loss may hide."""
        norm = record.grad_norm
        if norm is None or isfinite(norm) or skips_steps or self.guard is None or not self.guard.non_finite:
            return None
        if has_finite_parameters(module):
            return None
        message = f"the gradients became {norm:g} at step {record.step}, and so did parameters"
        return StopDecision(StopReason.NON_FINITE, record.step, message, record.lr)

    def _stop_if(self, trainer: Any, stop: bool) -> None:
        """Stop if rank 0 has decided so."""
        if not stop or self._decision is not None:
            return
        self._decision = from_rank_zero(trainer, self._found)
        self._early_end.end(trainer, validate=False)
        if self._decision is not None:
            self._warn(trainer, f"stopped the training {_explained(self._decision)}")

    def _warn_of_alarms(self, trainer: Any) -> None:
        if self._history is not None:
            for sentence in self._history.news:
                self._warn(trainer, f"notes that {sentence}; it may be benign, and the training continues.")
            self._history.news.clear()

    def _warn(self, trainer: Any, sentence: str) -> None:
        if self._listener is None and trainer.is_global_zero:
            warnings.warn(f"opttune {sentence}", stacklevel=2)


def _judged(guard: Guard | None, module: Any) -> Guard | None:
    """Return the rules that apply to a module.

    Under manual optimization, the result of `training_step` need not be the loss that an optimizer lowers. If two
    networks train against each other, one loss may rise and the other may never fall.
    """
    if guard is None or module.automatic_optimization:
        return guard
    # the Trainer's own list, because a module may have an attribute `optimizers`
    has_one = len(module.trainer.optimizers) == 1
    return replace(guard, stall=False, blow_up=guard.blow_up and has_one)


def has_finite_parameters(module: Any) -> bool:
    """Return whether all parameters of a module are finite."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


def _explained(decision: StopDecision) -> str:
    """Return the rule, the step, the numbers and a learning rate to try, in words."""
    said = f"({decision.reason}): {decision.message}."
    if not decision.lr or not isfinite(decision.lr):
        return said
    other = ", or a larger one if it was small for this model" if decision.reason is StopReason.STALL else ""
    return f"{said} The learning rate was {decision.lr:.3g}; try {decision.lr / 10:.3g}{other}."


def _shards_gradients(trainer: Any) -> bool:
    name = type(trainer.strategy).__name__
    return "FSDP" in name or "ModelParallel" in name
