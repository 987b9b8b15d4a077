"""The rule for a loss that does not fall: a pure decision on the losses and validations so far.

With `L0` the first loss and `m` the median of the last `W` losses, as in `rules.py`, or of the last three where that
is lower: once, at 10% of the length (at least 20 steps) and not before 5% of it have passed since the learning rate
last rose, `m > 0.995 L0` ends the run, unless a validation was better than the first by 2%. A loss that stands far
above the first is blow-up's to judge: it may be a catapult, and the moment waits until it is down. A loss that is
noised, smoothed or mixed may stand still while the model learns, so that without two validations nothing is ended:
the moment waits for the second one, until half of the length.
"""

from collections.abc import Sequence
from enum import Enum
from math import isfinite

from opttune.guard.rules import Guard, Verdict, is_blown_up, latest_median, recent_median
from opttune.outcome import StopReason

_LEAST_STEPS = 20
"""Fewer say nothing of whether a loss falls."""


class Timing(Enum):
    """Whether this is the moment to look for a stall."""

    EARLY = "early"
    DUE = "due"
    LATE = "late"


def stall_timing(step: int, total_steps: int, risen_until: int, guard: Guard) -> Timing:
    """Say whether a stall is looked for after an optimizer step.

    Args:
        step: The step, counted from 1.
        total_steps: Optimizer steps of the full length; 0 where it is unknown, of which none is looked for.
        risen_until: The step with the highest learning rate so far: a warmup's end.
        guard: The settings.

    Example:
        >>> stall_timing(100, 1000, 60, Guard()), stall_timing(110, 1000, 60, Guard())
        (<Timing.EARLY: 'early'>, <Timing.DUE: 'due'>)
    """
    if not guard.stall or step > guard.stall_until_fraction * total_steps:
        return Timing.LATE
    earliest = max(_LEAST_STEPS, guard.stall_from_fraction * total_steps)
    after_warmup = risen_until + guard.stall_after_warmup_fraction * total_steps
    return Timing.EARLY if step < max(earliest, after_warmup) else Timing.DUE


def has_stalled(losses: Sequence[float], guard: Guard) -> bool:
    """Return whether the loss stands where it began, or not far above.

    Example:
        >>> has_stalled([2.3, 2.31, 2.3], Guard()), has_stalled([2.3, 2.1, 1.9], Guard())
        (True, False)
    """
    finite = list(filter(isfinite, losses))
    if not finite or is_blown_up(finite, guard):
        return False
    limit = finite[0] - (1 - guard.stall_ratio) * abs(finite[0])
    return min(recent_median(finite, guard), latest_median(finite)) > limit


def has_improved(validations: Sequence[float], mode: str, guard: Guard) -> bool:
    """Return whether some validation was better than the first by the share that speaks against a stall.

    Args:
        validations: The monitored metric at each validation.
        mode: Whether it is to fall (`min`) or to rise (`max`).
        guard: The settings.

    Example:
        >>> has_improved([2.3, 2.2], "min", Guard()), has_improved([0.1, 0.1001], "max", Guard())
        (True, False)
    """
    first = validations[0]
    gains = [first - value if mode == "min" else value - first for value in validations[1:]]
    finite = [gain for gain in gains if isfinite(gain)]
    return bool(finite) and max(finite) > 0 and max(finite) >= guard.stall_veto_fraction * abs(first)


def judge_stall(
    losses: Sequence[float], validations: Sequence[float], mode: str, guard: Guard, step: int
) -> Verdict | None:
    """Decide, at the moment that `stall_timing` gives, whether the run must end.

    Args:
        losses: The loss of every step so far.
        validations: The monitored metric at each validation so far, at least two.
        mode: Whether it is to fall (`min`) or to rise (`max`).
        guard: The settings.
        step: The step.

    Example:
        >>> judge_stall([2.3] * 50, [2.3, 2.29], "min", Guard(), 50).message
        'the loss did not fall: its median was 2.3 at step 50, the first 2.3; nor did a validation improve by 2%'
    """
    if not has_stalled(losses, guard) or has_improved(validations, mode, guard):
        return None
    finite = list(filter(isfinite, losses))
    message = (
        f"the loss did not fall: its median was {recent_median(finite, guard):.4g} at step {step}, "
        f"the first {finite[0]:.4g}; nor did a validation improve by {guard.stall_veto_fraction:.0%}"
    )
    return Verdict(StopReason.STALL, step, message)
