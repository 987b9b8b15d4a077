"""The guard's rules: pure decisions on the losses and validations so far.

`L0` is the first loss. If it is the lowest of the first `W` losses by the luck of one batch, which recurs later, `L0`
is the second lowest of them. `m` is the median of the last `W = max(8, 20% of the steps so far)` losses.

- non-finite: a loss that is NaN or infinite ends the run at once;
- runaway: the median of the last three losses above 900 times the first, or of the last nine above 30 times, ends the
  run in its first steps. It is checked at every step up to 20% of the length. A catapult does not rise as high, or
  comes down earlier;
- blow-up: `m > 1.5 L0` at two checks in a row ends the run. The checks are `max(8 steps, 1%)` of the length apart, from
  `max(10 steps, 1%)` to 20% of the length. One spike, or a rise that comes down again, ends nothing. If `L0` is near or
  below zero, the condition is `m - L0 > max(0.5 |L0|, 10 MAD of the first W losses)`;
- stall: `m > 0.995 L0`, also with the median of the last three for `m`, ends the run, unless a validation was better
  than the first by 2%. Validations do not count if they are not finite, or if they are exactly equal while the loss
  varies: averaged weights may not be trained yet, or the metric may be logged seldom. It is checked once, at 10% of
  the length (at least 20 steps) and at least 5% of it after the learning rate last rose. A loss far above the first is
  left to blow-up: it may be a catapult, and the check waits until it is down. A noised, smoothed or mixed loss may stay
  level while the model learns. Therefore the check waits for the second validation, until half of the length, and ends
  nothing without it.

In a training of unknown length, only the first 18 losses are checked for runaway and blow-up. Medians leave out
non-finite losses that a GradScaler skips.

Why a rise alone ends nothing: at learning rates above the edge of stability the loss first rises, the curvature falls,
and the run then converges, often better (the catapult: Lewkowycz et al. 2020, arXiv 2003.02218). PaLM's loss spiked
about 20 times and recovered (Chowdhery et al. 2022, arXiv 2204.02311). Google's tuning playbook treats a loss far above
its start as infeasible. The thresholds were chosen on recorded runs: the project's own, DeepOBS's (Schneider et al.
2019) and AlgoPerf's (Dahl et al. 2023). The reported figures come from other problems. `benchmarks/guard.py` prints
both; `docs/guard.md` has the figures. The form of the runaway rule is this project's own.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf, isfinite
from statistics import median
from typing import Any

from opttune.errors import InputError
from opttune.outcome import StopReason

_RATIO: tuple[Callable[[float], bool], str] = (lambda value: value > 1, "> 1")
_SHARE: tuple[Callable[[float], bool], str] = (lambda value: 0 <= value <= 1, "in [0, 1]")
_COUNT: tuple[Callable[[float], bool], str] = (lambda value: value >= 1, ">= 1")
_LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(("runaway_ratio", "blow_up_ratio", "spike_ratio", "grad_norm_ratio"), _RATIO),
    **dict.fromkeys(("blow_up_until_fraction", "window_fraction"), _SHARE),
    **dict.fromkeys(("stall_from_fraction", "stall_after_warmup_fraction", "stall_until_fraction"), _SHARE),
    **dict.fromkeys(("window_steps", "read_every_steps"), _COUNT),
    "stall_ratio": (lambda value: 0 < value <= 1, "in (0, 1]"),
    "stall_veto_fraction": (lambda value: value > 0, "> 0"),
    "allowed_skipped_steps": (lambda value: value >= 0, ">= 0"),
}


@dataclass(frozen=True, slots=True)
class Guard:
    """Settings of the rules that end a training run that diverges or stalls.

    Attributes:
        non_finite: Whether a loss that is NaN or infinite ends the run.
        allowed_skipped_steps: Non-finite losses in a row that are allowed under a GradScaler, which skips such steps.
        blow_up: Whether a loss that rises and stays up, or runs away, ends the run.
        runaway_ratio: The median of nine losses may rise to this multiple of the first loss, the median of three to its
            square, > 1.
        blow_up_ratio: The median loss may rise to this multiple of the first loss, > 1.
        blow_up_until_fraction: Share of the length after which blow-up is no longer checked, in [0, 1].
        stall: Whether a loss that has not fallen, and validations that have not improved, end the run.
        stall_ratio: The median loss must have fallen below this multiple of the first loss, in (0, 1].
        stall_from_fraction: Share of the length at which stall is checked, once, in [0, 1].
        stall_after_warmup_fraction: Least share of the length between the highest learning rate so far and this check,
            in [0, 1].
        stall_until_fraction: Share of the length until which this check waits for a second validation, in [0, 1].
        stall_veto_fraction: A validation that is better than the first by this share of it vetoes a stall, > 0.
        window_steps: Least number of losses in a median, >= 1.
        window_fraction: Share of the steps so far in a median, in [0, 1].
        alarms: Whether spikes of the loss and jumps of the gradient norm are noted; they do not end the run.
        spike_ratio: A loss above this multiple of the first is a spike, > 1.
        grad_norm_ratio: A norm above this multiple of the usual one is a jump, > 1.
        watch_grad_norm: Whether to compute the gradient norm for these alarms; tracking always computes it.
        read_every_steps: Steps between two readings of the losses from an accelerator, >= 1. On a CPU, every step is
            read at once.

    Raises:
        InputError: A setting is out of range.

    Example:
        >>> Guard().blow_up_ratio
        1.5
    """

    non_finite: bool = True
    allowed_skipped_steps: int = 5
    blow_up: bool = True
    runaway_ratio: float = 30.0
    blow_up_ratio: float = 1.5
    blow_up_until_fraction: float = 0.2
    stall: bool = True
    stall_ratio: float = 0.995
    stall_from_fraction: float = 0.1
    stall_after_warmup_fraction: float = 0.05
    stall_until_fraction: float = 0.5
    stall_veto_fraction: float = 0.02
    window_steps: int = 8
    window_fraction: float = 0.2
    alarms: bool = True
    spike_ratio: float = 2.0
    grad_norm_ratio: float = 10.0
    watch_grad_norm: bool = False
    read_every_steps: int = 5

    def __post_init__(self) -> None:
        for name, (holds, words) in _LIMITS.items():
            if not holds(getattr(self, name)):
                raise InputError(f"Guard: {name} must be {words}, got {getattr(self, name)!r}.")

    @classmethod
    def finite_only(cls) -> "Guard":
        """Return a guard that checks only for non-finite losses.

        Use it for reinforcement learning, GANs and contrastive losses. There, a rising or level loss need not be bad.
        """
        return cls(blow_up=False, stall=False, alarms=False)

    @classmethod
    def of(cls, guard: "Guard | bool | None", default: bool = True) -> "Guard | None":
        """Return the guard for an argument `guard=`: True is the default guard, False none, None follows `default`."""
        if isinstance(guard, Guard):
            return guard
        if guard is None or isinstance(guard, bool):
            return cls() if (default if guard is None else guard) else None
        raise InputError(f"guard must be an opttune.Guard, True, False or None, got {guard!r}.")


@dataclass(frozen=True, slots=True)
class StopDecision:
    """The decision that a run must end.

    Attributes:
        reason: The rule.
        step: The optimizer step of the decision, counted from 1.
        message: One sentence with the numbers.
        lr: The learning rate of that step; None if unknown.
    """

    reason: StopReason
    step: int
    message: str
    lr: float | None = None


def judge(
    losses: Sequence[float], total_steps: int, guard: Guard, skips_steps: bool = False, step: int | None = None
) -> StopDecision | None:
    """Decide, after an optimizer step, whether the run must end.

    Args:
        losses: The loss of every step so far.
        total_steps: Optimizer steps of the full length; 0 if unknown.
        guard: The settings.
        skips_steps: Whether a GradScaler skips steps with non-finite gradients.
        step: The step of the last loss; None if every step had a loss.

    Returns:
        The decision, or None if the run continues.

    Example:
        >>> judge([2.3, 2.2, float("nan")], 100, Guard()).message
        'the loss became nan at step 3'
        >>> judge([2.3, 2.2, 2.1], 100, Guard()) is None
        True
    """
    step = len(losses) if step is None else step
    if not isfinite(losses[-1]):
        return _judge_non_finite(losses, guard, skips_steps, step)
    if not looks_for_blow_up(len(losses), total_steps, guard):
        return None
    return _judge_runaway(losses, guard, step) or _judge_blow_up(losses, total_steps, guard, step)


def looks_for_blow_up(count: int, total_steps: int, guard: Guard) -> bool:
    """Return whether a rising loss can still end a run with this number of losses."""
    # a very short run gets its first two checks even if they are beyond the share
    last = max(guard.blow_up_until_fraction * total_steps, _first_check(total_steps) + _check_distance(total_steps))
    return guard.blow_up and count <= last


_RUNAWAY_STEPS, _LATEST = 9, 3


def _judge_runaway(losses: Sequence[float], guard: Guard, step: int) -> StopDecision | None:
    first, latest = next(filter(isfinite, losses)), latest_median(losses)
    highest = guard.runaway_ratio * first
    if len(losses) <= _LATEST or first <= NEAR_ZERO:
        return None
    if latest <= guard.runaway_ratio * highest:
        recent = median([loss for loss in losses[-_RUNAWAY_STEPS:] if isfinite(loss)])
        if len(losses) <= _RUNAWAY_STEPS or recent <= highest or latest < min(highest, recent / 2):
            # not high enough, not long enough, or a catapult on its way down
            return None
        latest = recent
    return StopDecision(StopReason.BLOW_UP, step, f"the loss ran away from {first:.4g} to {latest:.4g} by step {step}")


def _judge_blow_up(losses: Sequence[float], total_steps: int, guard: Guard, step: int) -> StopDecision | None:
    distance = _check_distance(total_steps)
    since_first = len(losses) - _first_check(total_steps)
    if since_first < distance or since_first % distance:
        return None
    now = list(filter(isfinite, losses))
    before = list(filter(isfinite, losses[:-distance]))
    if not before or not (is_blown_up(now, guard) and is_blown_up(before, guard)):
        return None
    message = (
        f"the loss rose from {reference_loss(now, guard):.4g} and stayed up: "
        f"its median was {recent_median(before, guard):.4g} at step {step - distance} "
        f"and {recent_median(now, guard):.4g} at step {step}"
    )
    return StopDecision(StopReason.BLOW_UP, step, message)


def _judge_non_finite(losses: Sequence[float], guard: Guard, skips_steps: bool, step: int) -> StopDecision | None:
    allowed = guard.allowed_skipped_steps if skips_steps else 0
    recent = losses[-allowed - 1 :]
    if not guard.non_finite or len(recent) <= allowed or any(isfinite(loss) for loss in recent):
        return None
    return StopDecision(StopReason.NON_FINITE, step, f"the loss became {losses[-1]:g} at step {step}")


def _first_check(total_steps: int) -> int:
    return max(10, total_steps // 100)


def _check_distance(total_steps: int) -> int:
    # far enough apart that two checks in a row share no loss
    return max(8, total_steps // 100)


def is_blown_up(losses: Sequence[float], guard: Guard) -> bool:
    """Return whether the median loss, of finite losses, is far above the first."""
    first, recent = reference_loss(losses, guard), recent_median(losses, guard)
    if first > NEAR_ZERO:
        return recent > guard.blow_up_ratio * first
    start = losses[: guard.window_steps]
    middle = median(start)
    spread = median(abs(loss - middle) for loss in start)
    return recent - first > max((guard.blow_up_ratio - 1) * abs(first), 10 * spread)


NEAR_ZERO = 0.01
"""Below this first loss a ratio is meaningless: a log-likelihood crosses zero on its way down."""


def latest_median(losses: Sequence[float]) -> float:
    """Return the median of the finite ones of the last three losses; infinity if there is none."""
    latest = [loss for loss in losses[-_LATEST:] if isfinite(loss)]
    return median(latest) if latest else inf


def reference_loss(losses: Sequence[float], guard: Guard) -> float:
    """Return the loss that later ones are compared with: the first of some finite losses.

    Where the first is the lowest of the first `W` and a later batch is as low, it was so by the luck of one batch: the
    second lowest takes its place.

    Example:
        >>> noisy = [0.6, 0.9, 0.8, 1.1, 0.9, 0.8, 1.0, 0.9, 0.7, 0.5]
        >>> reference_loss(noisy, Guard()), reference_loss(noisy[:-1], Guard())
        (0.8, 0.6)
    """
    window = guard.window_steps
    is_luck = min(losses[window:], default=inf) <= losses[0]
    return max(losses[0], sorted(losses[:window])[:2][-1]) if is_luck else losses[0]


def recent_median(losses: Sequence[float], guard: Guard) -> float:
    """Return the median of the last `W` losses."""
    window = max(guard.window_steps, round(guard.window_fraction * len(losses)))
    return median(losses[-window:])


_LEAST_STEPS = 20
"""Fewer steps do not show whether a loss falls."""


class Timing(Enum):
    """Whether a stall is checked at a step."""

    EARLY = "early"
    DUE = "due"
    LATE = "late"


def stall_timing(step: int, total_steps: int, risen_until: int, guard: Guard) -> Timing:
    """Return whether a stall is checked after an optimizer step.

    Args:
        step: The step, counted from 1.
        total_steps: Optimizer steps of the full length; 0 if unknown, which disables the check.
        risen_until: The step with the highest learning rate so far, such as the end of a warmup.
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
    """Return whether the loss has neither fallen below nor risen far above the first.

    Example:
        >>> has_stalled([2.3, 2.31, 2.3], Guard()), has_stalled([2.3, 2.1, 1.9], Guard())
        (True, False)
    """
    finite = list(filter(isfinite, losses))
    if not finite or is_blown_up(finite, guard):
        return False
    first = finite[0]
    limit = first - (1 - guard.stall_ratio) * abs(first)
    return min(recent_median(finite, guard), latest_median(finite)) > limit


def has_improved(validations: Sequence[float], mode: str, guard: Guard) -> bool:
    """Return whether a validation was better than the first by the share that vetoes a stall.

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


def telling(validations: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Return the validations that say something about the training.

    A metric may be undefined at first. Exactly equal values while the loss varies do not belong to the trained weights:
    averaged weights may be validated before the average starts, or a metric may be logged less often.

    Args:
        validations: The monitored metric at each validation so far.
        losses: The loss of every step so far.

    Example:
        >>> telling([float("nan"), 0.7, 0.7, 0.6], [2.3, 2.2]), telling([0.7, 0.7], [2.3, 2.3])
        ([0.7, 0.6], [0.7, 0.7])
    """
    finite = list(filter(isfinite, validations))
    if len(set(losses[-_LATEST:])) == 1:
        return finite
    return [value for place, value in enumerate(finite) if place == 0 or value != finite[place - 1]]


def judge_stall(
    losses: Sequence[float], validations: Sequence[float], mode: str, guard: Guard, step: int
) -> StopDecision | None:
    """Decide, when `stall_timing` is due, whether the run has stalled and must end.

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
    first, recent = finite[0], recent_median(finite, guard)
    message = (
        f"the loss did not fall: its median was {recent:.4g} at step {step}, "
        f"the first {first:.4g}; nor did a validation improve by {guard.stall_veto_fraction:.0%}"
    )
    return StopDecision(StopReason.STALL, step, message)


def __getattr__(name: str) -> Any:
    if name == "Verdict":
        warnings.warn("opttune.guard.rules.Verdict is now called StopDecision.", DeprecationWarning, stacklevel=2)
        return StopDecision
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
