"""How a fit ended: the reason, the value and a sentence."""

from collections.abc import Callable
from math import isfinite
from typing import Any

from opttune.errors import OpttuneError
from opttune.guard.callback import GuardCallback
from opttune.guard.rules import Verdict
from opttune.outcome import StopReason
from opttune.trainer.ranks import from_rank_zero
from opttune.training.metrics import read_monitor

Conclusion = tuple[StopReason, float | None, str]


def conclude(trainer: Any, verdict: Verdict | None, monitor: str, total_steps: int, paused: bool = False) -> Conclusion:
    """Say how a fit that raised nothing ended.

    Args:
        trainer: The Trainer, after its fit.
        verdict: The guard's, where it ended the run.
        monitor: The metric whose value counts.
        total_steps: Optimizer steps of the full length.
        paused: Whether it was paused at a rung.

    Returns:
        Why it ended, the value where there is one, and a sentence where it did not run its full length.

    Raises:
        MonitorError: The metric was never logged.
    """
    if verdict is not None:
        return verdict.reason, None, verdict.message
    value = read_monitor(trainer.callback_metrics, monitor)
    if not isfinite(value):
        return StopReason.NON_FINITE, None, f"{monitor} was {value:g} at the end"
    if paused:
        return StopReason.PAUSED, value, f"paused after {trainer.global_step} of {total_steps} steps"
    if trainer.global_step < total_steps:
        return StopReason.EARLY_STOPPED, value, f"ended after {trainer.global_step} of {total_steps} steps"
    return StopReason.COMPLETED, value, ""


def guarded_fields(guard: GuardCallback) -> dict[str, Any]:
    """Return what the guard noted of a fit, as fields of an outcome."""
    verdict, flagged = guard.verdict, guard.flagged
    return {
        "alarms": "; ".join(guard.alarms),
        "flagged": "" if flagged is None else str(flagged.reason),
        "stopped_lr": None if verdict is None else verdict.lr,
    }


def agreed(trainer: Any, decide: Callable[[], Conclusion]) -> Conclusion:
    """Return on every rank what rank 0 decides; metrics that are not synchronised differ between them.

    Raises:
        OpttuneError: As rank 0 has it.
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
        raise told or OpttuneError("the first rank has found nothing out")
    return told
