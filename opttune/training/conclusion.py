"""How a fit ended: the reason, the value and a sentence."""

from math import isfinite
from typing import Any

from opttune.guard.callback import GuardCallback
from opttune.guard.rules import Verdict
from opttune.outcome import StopReason
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
