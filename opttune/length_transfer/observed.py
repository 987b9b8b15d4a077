"""What a study shows of other lengths: how its best rate depends on them, and where its metric leads."""

from collections.abc import Iterator
from math import inf, isfinite

from opttune.algorithms.length_law import LEAST_POINTS, Forecast, RateTrial, forecast
from opttune.outcome import StopReason, optimizer_steps
from opttune.space.model import RACED_FROM_STEPS
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord

_DIVERGED_MARGIN = 0.9
"""A rate is raised to this share of one that diverged at most. Chosen by hand."""


def rate_trials(study: FrozenStudy) -> Iterator[RateTrial]:
    """Yield the metric at each length of the trials with one optimizer, lower is better."""
    sign = 1.0 if study.config.mode == "min" else -1.0
    for record in study.records:
        if record.recipe is not None and record.rate is not None and len(record.recipe.optimizer.split()) == 1:
            values = {length: sign * value for length, value in _values_by_length(study, record).items()}
            yield RateTrial(record.optimizer, record.rate, values)


def rate_ceilings(study: FrozenStudy) -> dict[str, float]:
    """Return, for each optimizer with a diverged trial, the upper limit to which its rate may be raised."""
    found: dict[str, float] = {}
    for record in study.records:
        if record.outcome is not None and record.outcome.has_diverged and record.rate is not None:
            below = _DIVERGED_MARGIN * record.rate
            found[record.optimizer] = min(below, found.get(record.optimizer, inf))
    return found


def expect_value(
    study: FrozenStudy, record: TrialRecord, trained: int, steps: int
) -> tuple[Forecast | None, list[str]]:
    """Return the forecast of a trial's metric, and its basis or the reason why there is none.

    Args:
        study: The study.
        record: The trial.
        trained: Optimizer steps of its full training.
        steps: Optimizer steps of the new length.
    """
    monitor = study.config.monitor
    if study.config.mode == "max":
        return None, [f"{monitor} is maximized, and the law behind a forecast is for losses that fall."]
    points = _values_by_length(study, record)
    if trained not in points:
        return None, [f"{record.title} ended before its full length."]
    if len(points) < LEAST_POINTS:
        return None, [
            f"a forecast needs {LEAST_POINTS} lengths at the end of its schedule, and {record.title} has "
            f"{len(points)}. A search takes such looks from {RACED_FROM_STEPS} steps on, and not at all trials."
        ]
    shown = ", ".join(f"{value:.5g} at {length}" for length, value in sorted(points.items()))
    expected = forecast(points, steps)
    if expected is None or not all(map(isfinite, (expected.value, expected.low, expected.high))):
        return None, [f"{monitor} does not fall with the length: {shown}."]
    return expected, [
        f"{monitor} of {record.title} at the end of its schedule: {shown}.",
        "The forecast assumes E + A t^-a for the unchanged recipe; it leaves out the effect of the changes.",
    ]


def _values_by_length(study: FrozenStudy, record: TrialRecord) -> dict[int, float]:
    """Return length -> metric for the trial and its looks; each is at the end of its schedule."""
    halving = study.config.halving_for(study.total_steps)
    # a stopped look left the value at the rung itself
    looks = [
        pause
        for pause in record.pauses
        if 0 < optimizer_steps(halving.look_steps(pause.steps), pause.share) <= pause.look_steps
    ]
    values = {one.optimizer_steps + one.look_steps: one.value for one in looks}
    if record.outcome is not None and record.outcome.reason is StopReason.COMPLETED:
        values[record.outcome.optimizer_steps] = record.outcome.value
    return {length: value for length, value in values.items() if value is not None}
