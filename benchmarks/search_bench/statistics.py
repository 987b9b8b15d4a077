"""Means over searches with bootstrap intervals, and how they are shown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        value: The number.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{shown(self.value)} [{shown(self.low)}, {shown(self.high)}]"


def shown(value: float) -> str:
    """Return a number in few characters.

    Example:
        >>> shown(12.345), shown(0.01234), shown(float("nan"))
        ('12.3', '0.012', '-')
    """
    if np.isnan(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def mean(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Return the mean over searches, and its interval.

    Args:
        values: One a search.
        groups: The table or task of each. Searches of one table are alike, so tables are drawn with repetition first,
            and then the seeds of each.
    """
    own = np.asarray(values, float)
    return _resampled(lambda weights: weights @ own / weights.sum(-1), groups)


def ratio(values: Sequence[float], against: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Return the ratio of two means over the same searches, which are drawn together."""
    ours, theirs = np.asarray(values, float), np.asarray(against, float)
    return _resampled(lambda weights: (weights @ ours) / (weights @ theirs), groups)


def geometric_mean(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Return the geometric mean, and its interval."""
    logs = np.log(np.asarray(values, float))
    return _resampled(lambda weights: np.exp(weights @ logs / weights.sum(-1)), groups)


def _resampled(measure: Callable[[Floats], Floats], groups: Sequence[str]) -> Estimate:
    if not groups:
        return Estimate(np.nan, np.nan, np.nan)
    low, high = np.quantile(measure(_weights(groups)), (0.025, 0.975))
    return Estimate(float(measure(np.ones((1, len(groups))))[0]), float(low), float(high))


def _weights(groups: Sequence[str]) -> Floats:
    """Return how often each search is drawn, in each of many resamples."""
    rng, labels, names = np.random.default_rng(0), np.asarray(groups), list(dict.fromkeys(groups))
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    weights = np.zeros((_RESAMPLES, len(groups)))
    for column, name in enumerate(names):
        (own,) = np.nonzero(labels == name)
        weights[:, own] = rng.multinomial(drawn[:, column] * len(own), np.full(len(own), 1 / len(own)))
    return weights


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, each column as wide as it must be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def in_order(present: Iterable[str], methods: Sequence[str]) -> list[str]:
    """Return the methods that are present in their order, last those that only another environment can run."""
    return sorted({*present}, key=lambda name: (methods.index(name) if name in methods else len(methods), name))


def look(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Return how a method's line is drawn: opttune's thick, those beyond the tenth dashed, then dotted."""
    place = methods.index(method)
    return {"lw": 2.5 if method == "ours" else 1.2, "color": f"C{place % 10}", "ls": ("-", "--", ":")[place // 10 % 3]}
