"""The metric and the best learning rate as functions of the length of a training.

The metric: `L(t) = E + A t^-a`, the law of Hestness et al. 2017 (https://arxiv.org/abs/1712.00409) in one variable,
for trainings of one recipe at the end of its schedule. Three or four points do not determine three numbers and the
noise, so there is no fit. Instead, the forecast is an average over a grid of `a`, `E` and the noise. The weights are
the prior and the likelihood of the points. `A` is integrated out.

The rate: `lr(t) = lr(T) (t / T)^-e`. Published and measured exponents have either sign (`PRIOR_EXPONENT`). The slope of
one study is a noisy guess: on Step Law's table, extrapolation with the whole slope was no better than with half of it.
Therefore the exponent is shrunk. It is the mean of the prior and of the exponents of the study's optimizers, weighted
by precision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, log, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEAST_POINTS = 3
"""Minimum number of lengths for a forecast."""
COVERAGE = 0.9
"""Coverage of the interval of a forecast."""
PRIOR_EXPONENT = NormalDist(0.15, 0.15)
"""Exponent of the learning rate over the length. It was 0.32 in Bjorck et al. 2024 (https://arxiv.org/abs/2409.19913).
On Step Law's table (https://arxiv.org/abs/2503.04715) it was 0.30, 0.13, -0.13 and -0.24 for batches of 32-64, 128, 256
and 352-1024. On language models of 15,000 to 50,000 steps it was 0.11 to 0.27 (`benchmarks/transfer.py`)."""
_LEAST_RATES = 3
"""Minimum number of different rates for a comparison of an optimizer's best rate at two lengths."""
_AT_EDGE = 2.0
"""Factor on the uncertainty of a best rate at the edge of the tried rates."""

_EXPONENTS: Array = np.linspace(0.05, 1.5, 30)
_LOG_PRIOR: Array = -(np.log(_EXPONENTS / 0.4) ** 2) / (2 * 0.6**2)
"""A log-normal prior around 0.4: for language models 0.28 (https://arxiv.org/abs/2203.15556) to 0.5. Chosen by hand."""
_FLOORS: Array = np.linspace(0.0, 0.995, 41)
_NOISES: Array = np.geomspace(0.01, 0.2, 8)
"""Standard deviations of one point, as shares of the fall from the first point to the last. Chosen by hand."""
_DISTANT = 2.0
"""Additional noise of a point for each factor of ten below the longest length, as a multiple of the longest point's
noise: the further the law reaches, the less accurate it is. Chosen by hand."""
_FURTHEST_FLOOR = 3.0
"""Maximum further fall of a metric with negative values, as a multiple of its fall so far."""
_NODES: Array = np.array([NormalDist().inv_cdf((node + 0.5) / 25) for node in range(25)])


@dataclass(frozen=True, slots=True)
class RateTrial:
    """A trial's learning rate and values.

    Attributes:
        optimizer: The name of its optimizer.
        rate: Its learning rate, > 0.
        values: Optimizer steps of a training -> its metric at the end of the schedule; lower is better.
    """

    optimizer: str
    rate: float
    values: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class RateComparison:
    """The best learning rates of one optimizer at two lengths, among the trials with a value at both.

    Attributes:
        optimizer: The optimizer.
        short: The shorter length in optimizer steps.
        long: The longer length in optimizer steps.
        best_at_short: The best rate at the shorter length.
        best_at_long: The best rate at the longer length.
        rates: The number of compared rates.
        exponent: The resulting exponent, with its uncertainty.
    """

    optimizer: str
    short: int
    long: int
    best_at_short: float
    best_at_long: float
    rates: int
    exponent: NormalDist


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast of a metric.

    Attributes:
        value: The median.
        low: The lower end of the interval.
        high: The upper end of the interval.
    """

    value: float
    low: float
    high: float


def forecast(points: Mapping[int, float], steps: int) -> Forecast | None:
    """Return the expected metric of a training of another length, lower is better; None if there is no forecast.

    There is none for fewer than `LEAST_POINTS` lengths, or if the metric does not fall from each length to the next.

    Args:
        points: Optimizer steps of a training of the same recipe -> its metric at the end of the schedule.
        steps: The length of interest.

    Example:
        >>> points = {100: 2 + 10 * 100**-0.5, 1_000: 2 + 10 * 1_000**-0.5, 10_000: 2 + 10 * 10_000**-0.5}
        >>> expected = forecast(points, 40_000)
        >>> round(expected.value, 1), expected.low < 2.05 < expected.high
        (2.0, True)
        >>> forecast({100: 3.0, 1_000: 2.0}, 40_000) is None
        True
    """
    lengths = sorted(points)
    if len(lengths) < LEAST_POINTS or any(points[long] >= points[short] for short, long in pairwise(lengths)):
        return None
    values, longest = np.array([points[length] for length in lengths]), lengths[-1]
    means, deviations, weights = _predictions(np.array(lengths) / longest, values, steps / longest)
    drawn = (means[:, None] + deviations[:, None] * _NODES).ravel()
    order = drawn.argsort()
    cumulated = np.cumsum(np.repeat(weights, len(_NODES))[order])
    places = np.searchsorted(cumulated / cumulated[-1], [0.5, (1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Forecast(*drawn[order][places].tolist())


def shrunk_exponent(comparisons: Sequence[RateComparison]) -> NormalDist:
    """Return the exponent of the learning rate: the mean of the prior and the comparisons, weighted by precision.

    Example:
        >>> round(shrunk_exponent([]).mean, 3)
        0.15
    """
    known = [PRIOR_EXPONENT, *(one.exponent for one in comparisons)]
    precision = sum(1 / one.variance for one in known)
    return NormalDist(sum(one.mean / one.variance for one in known) / precision, sqrt(1 / precision))


def compare_rates(trials: Sequence[RateTrial]) -> list[RateComparison]:
    """Return the comparison of each optimizer's best rates at two lengths, at most one per optimizer.

    The longer length is the longest that trials of the optimizer have reached. The shorter is the shortest at which
    enough of those trials have values. Only trials with values at both count, because trials that were not promoted
    have no value at the longer one. There is no comparison if the best rate is the lowest tried one at both lengths, or
    the highest at both.
    """
    found = []
    for optimizer in dict.fromkeys(trial.optimizer for trial in trials):
        mine = [trial for trial in trials if trial.optimizer == optimizer and trial.values]
        long = max((max(trial.values) for trial in mine), default=0)
        reached = [trial for trial in mine if long in trial.values]
        for short in sorted({length for trial in reached for length in trial.values if length < long}):
            both = [trial for trial in reached if short in trial.values]
            if len({trial.rate for trial in both}) >= _LEAST_RATES:
                found += _compare(both, short, long)
                break
    return found


def _compare(trials: Sequence[RateTrial], short: int, long: int) -> list[RateComparison]:
    rates = sorted({trial.rate for trial in trials})
    early, late = (min(trials, key=lambda one: (one.values[length], one.rate)).rate for length in (short, long))
    if early == late and early in (rates[0], rates[-1]):
        return []
    spread, stretch = hypot(_uncertainty(rates, early), _uncertainty(rates, late)), log(long / short)
    exponent = NormalDist(log(early / late) / stretch, spread / stretch)
    return [RateComparison(trials[0].optimizer, short, long, early, late, len(rates), exponent)]


def _uncertainty(rates: Sequence[float], best: float) -> float:
    """Return the uncertainty of the logarithm of the best rate: about half of the distance to the next tried rate."""
    place = rates.index(best)
    gaps = [abs(log(rates[near] / best)) for near in (place - 1, place + 1) if 0 <= near < len(rates)]
    return max(gaps) / 2 * (1.0 if len(gaps) > 1 else _AT_EDGE)


def _predictions(lengths: Array, values: Array, at: float) -> tuple[Array, Array, Array]:
    """Return the mean, the standard deviation and the weight of the value at a length for each law of the grid."""
    fall, last = values[0] - values[-1], values[-1]
    bottom = 0.0 if values.min() > 0 else last - _FURTHEST_FLOOR * fall
    exponents, floors, noises = (
        one.ravel() for one in np.meshgrid(_EXPONENTS, bottom + _FLOORS * (last - bottom), _NOISES, indexing="ij")
    )
    spread = fall * noises[:, None] * (1 - _DISTANT * np.log10(lengths))
    powers, above = lengths ** -exponents[:, None], values - floors[:, None]
    precision = np.sum((powers / spread) ** 2, axis=1)
    factor = np.sum(powers * above / spread**2, axis=1) / precision
    misfit = np.sum(((above - factor[:, None] * powers) / spread) ** 2, axis=1)
    log_prior = np.repeat(_LOG_PRIOR, len(_FLOORS) * len(_NOISES))
    logs = log_prior - misfit / 2 - np.log(spread).sum(1) - np.log(precision) / 2
    power = at**-exponents
    deviations = np.sqrt(power**2 / precision + (fall * noises) ** 2)
    return floors + factor * power, deviations, np.exp(logs - logs.max())
