"""The end of a fit: the last validation, and the reason, the value and the message of the outcome."""

import sys
from collections.abc import Callable
from math import isfinite
from typing import Any

from opttune.errors import ModelError, MonitorError, OpttuneError
from opttune.guard.callback import GuardCallback, has_finite_parameters
from opttune.guard.rules import StopDecision
from opttune.outcome import StopReason
from opttune.trainer.early_end import EarlyEnd
from opttune.trainer.internals import batch_norm_epochs
from opttune.trainer.namespaces import AnyCallback
from opttune.trainer.ranks import from_rank_zero
from opttune.training.errors import shows_divergence
from opttune.training.length import count_steps, has_known_length
from opttune.training.logged_names import validates
from opttune.training.metrics import read_monitor

Conclusion = tuple[StopReason, float | None, str]
"""The reason why a fit ended, its value if there is one, and a message if it did not run its full length."""


_MOST_IDLE_BATCHES = 1000
"""More batches in a row without an optimizer step count as a training without progress. Chosen by hand."""


class FinishWithValidation(AnyCallback):
    """Runs a validation after the last step.

    A Trainer that reaches `max_steps` within an epoch runs none.

    Args:
        stop_at_step: End after this optimizer step; 0 for the first batch, without a validation; None for the full
            length.

    Attributes:
        total_steps: Optimizer steps of the full length, once the training has started.
    """

    def __init__(self, stop_at_step: int | None = None) -> None:
        super().__init__()
        self.total_steps = 0
        self._stop_at_step = stop_at_step
        self._ends_itself = False
        self._seen_step, self._idle_batches = -1, 0
        self._early_end = EarlyEnd()

    @property
    def _last_step(self) -> int:
        return self.total_steps if self._stop_at_step is None else min(self._stop_at_step, self.total_steps)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the last step."""
        # a Trainer that counts in epochs ends them itself
        self.total_steps = count_steps(trainer) if has_known_length(trainer) else sys.maxsize
        # the averaged weights are loaded in the following epochs
        self._ends_itself = self._stop_at_step is None and batch_norm_epochs(trainer) > 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After the last step, end with a validation; after a stop by the guard, end without one.

        Raises:
            FloatingPointError: No batch has led to a step for a long time, and the fit would never end.
        """
        self._idle_batches = 0 if trainer.global_step != self._seen_step else self._idle_batches + 1
        self._seen_step = trainer.global_step
        most = max(_MOST_IDLE_BATCHES, 10 * trainer.accumulate_grad_batches)
        if self._idle_batches > most and trainer.max_epochs == -1:
            if not pl_module.automatic_optimization:
                raise ModelError(
                    f"{type(pl_module).__name__} has made no optimizer step in {most} batches, as trainer.global_step "
                    "counts them: step what self.optimizers() returns, without use_pl_optimizer=False."
                )
            raise FloatingPointError(
                f"no optimizer step in {most} batches: training_step gives no loss, as it may where that is not finite"
            )
        if trainer.global_step >= self._last_step and not self._ends_itself:
            self._early_end.end(trainer, validate=self._last_step > 0)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the Trainer's settings."""
        self._early_end.restore()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the Trainer's settings."""
        self._early_end.restore()


def conclude(
    trainer: Any, decision: StopDecision | None, monitor: str, total_steps: int, paused: bool = False
) -> Conclusion:
    """Return the end of a fit without an error.

    Args:
        trainer: The Trainer, after its fit.
        decision: The guard's decision, if it ended the run.
        monitor: The metric whose value is the result.
        total_steps: Optimizer steps of the full length.
        paused: Whether it was paused at a rung.

    Returns:
        The reason, the value if there is one, and a message if it did not run its full length.

    Raises:
        MonitorError: The metric was never logged.
    """
    if decision is not None:
        return decision.reason, None, decision.message
    so_far, is_whole = f"after {trainer.global_step} of {total_steps} steps", trainer.global_step >= total_steps
    try:
        value = read_monitor(trainer.callback_metrics, monitor, validates(trainer))
    except MonitorError:
        if is_whole and not paused:
            raise
        words = f"{monitor} was not logged"
    else:
        words = "" if isfinite(value) else f"{monitor} was {value:g}"
    if words and paused and has_finite_parameters(trainer.lightning_module):
        # a score may be undefined, or not be computed, early in a training
        return StopReason.PAUSED, None, f"paused {so_far}; {words} there"
    if words:
        return StopReason.NON_FINITE, None, f"{words} at the end"
    if paused:
        return StopReason.PAUSED, value, f"paused {so_far}"
    if not is_whole:
        return StopReason.EARLY_STOPPED, value, f"ended {so_far}"
    return StopReason.COMPLETED, value, ""


def had_diverged(trainer: Any, guard: GuardCallback, error: BaseException) -> bool:
    """Return whether a training had diverged when an error ended it; then the cause is the recipe, not the code.

    Before the first step, the recipe cannot be the cause.

    Args:
        trainer: The Trainer; None if the error came before it was made.
        guard: The guard of the fit.
        error: The error.
    """
    if trainer is None or trainer.global_step == 0:
        return False
    return guard.has_diverged(trainer.lightning_module) or shows_divergence(error)


def guarded_fields(guard: GuardCallback, has_diverged: bool) -> dict[str, Any]:
    """Return the guard's notes on a fit, as fields of an outcome.

    Args:
        guard: The guard.
        has_diverged: Whether the fit diverged without a decision of the guard.
    """
    decision = guard.decision
    lr = decision.lr if decision is not None else guard.lr if has_diverged else None
    return {"alarms": "; ".join(guard.alarms), "stopped_lr": lr if lr is not None and isfinite(lr) else None}


def agreed(trainer: Any, decide: Callable[[], Conclusion]) -> Conclusion:
    """Return rank 0's conclusion on every rank, because unsynchronised metrics differ between ranks.

    Raises:
        OpttuneError: Rank 0 raised it.
    """
    found: Conclusion | OpttuneError | None = None
    if trainer.is_global_zero:
        try:
            found = decide()
        except OpttuneError as err:
            if trainer.world_size == 1:
                raise
            found = err
    told = from_rank_zero(trainer, found)
    if isinstance(told, OpttuneError) or told is None:
        raise told or OpttuneError("rank 0 returned no result")
    return told
