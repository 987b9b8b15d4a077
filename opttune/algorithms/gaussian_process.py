"""A Gaussian process over what trials have shown: which of some candidates promises the largest improvement?

The learning rate counts in decades from its prior centre, so that what one optimizer shows is shared by all. By how
much all centres are off together is unknown: the model holds every offset for as likely as it explains the trials, and
what it promises is the mean over them, so that a wrong prior is left as soon as trials say so. The other fields count
where they mean the same, by their last name, each on the place in its own range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erf, log10, pi, sqrt

import numpy as np
import numpy.typing as npt

from opttune.algorithms.observations import Observation, best_first, score_of_rank
from opttune.algorithms.prior_shift import OFFSETS, weights
from opttune.space.model import Choice, Fixed, Range, Scalar, Space
from opttune.space.sample import parameter

Parameters = Mapping[str, Scalar]
Array = npt.NDArray[np.float64]

_SHARED, _OWN, _OPTIMIZER, _FIELDS, _NOISE = 0.5, 0.5, 0.3, 0.3, 0.05
"""Variances, of scores whose own is about 1: of the learning rate's curve that all optimizers share, of each one's
own, of the optimizers' levels, of all other fields together, and of what another seed would change."""
_SHARED_DECADES, _OWN_DECADES, _FIELD_LENGTH = 0.7, 0.5, 0.3
"""Over which distance values are alike."""
_PRIOR_SLOPE, _PRIOR_MOST = 0.5, 2.0
"""The prior: the score worsens with the square of the decades from the centre, and no further from here on."""
_MOST_TRIALS = 150
"""Trials that are looked at: the best half of them, and the latest."""
_LEAST_WEIGHT = 1e-3
"""Offsets that are less likely than this, beside the likeliest, are passed over."""


@dataclass(frozen=True, slots=True)
class _Points:
    optimizer: npt.NDArray[np.int64]
    decades: Array
    fields: Array
    """One row a point, a column a field; NaN where a point lacks the field."""

    def first(self, count: int) -> "_Points":
        """Return the first so many."""
        return _Points(self.optimizer[:count], self.decades[:count], self.fields[:count])


class GaussianProcess:
    """A model of the scores over a space.

    Args:
        space: What varies.
        observations: What the trials have shown, at least one.
        pending: Parameters of trials that have shown nothing yet: there is less to learn near them.

    Attributes:
        offsets: How likely each of `OFFSETS` is.
    """

    def __init__(self, space: Space, observations: Sequence[Observation], pending: Sequence[Parameters] = ()) -> None:
        self._encoder = _Encoder(space)
        kept = _worth_a_look(observations)
        score = np.array(list(kept.values()))
        plans = [observations[index].parameters for index in kept]
        self._known = self._encoder.points([*plans, *pending[-_MOST_TRIALS:]])
        self._points = self._known.first(len(plans))
        among = self._covariance(self._known, self._known)
        across = among[: len(plans), : len(plans)]
        inverse = _inverse(across)
        self._inverse = _inverse(among) if pending else inverse
        # a column for each offset
        rest = score[:, None] - _prior_mean(self._points)
        self._level = inverse.sum(0) @ rest / inverse.sum()
        self._weights = inverse @ (rest - self._level)
        self.offsets = weights(-np.sum((rest - self._level) * self._weights, axis=0) / 2)
        self._best = self._mean(self._points, across).min(0)

    @property
    def offset(self) -> float:
        """The likeliest offset, in decades."""
        return float(OFFSETS[self.offsets.argmax()])

    def improvement(self, candidates: Sequence[Parameters]) -> Array:
        """Return the expected improvement of each candidate on the best point so far."""
        points = self._encoder.points(candidates)
        across = self._covariance(points, self._known)
        variance = _SHARED + _OWN + _OPTIMIZER + _FIELDS - np.sum(across @ self._inverse * across, axis=1)
        deviation = np.sqrt(np.maximum(variance, 1e-9))[:, None]
        likely = self.offsets > _LEAST_WEIGHT * self.offsets.max()
        gain = (self._best - self._mean(points, across[:, : len(self._weights)]))[:, likely]
        standard = gain / deviation
        density = np.exp(-(standard**2) / 2) / sqrt(2 * pi)
        expected: Array = (gain * _below(standard) + deviation * density) @ self.offsets[likely]
        return expected

    def _mean(self, points: _Points, across: Array) -> Array:
        """Return a row for each point, with a column for each offset."""
        mean: Array = _prior_mean(points) + self._level + across @ self._weights
        return mean

    def _covariance(self, left: _Points, right: _Points) -> Array:
        square = (left.decades[:, None] - right.decades[None, :]) ** 2
        same = (left.optimizer[:, None] == right.optimizer[None, :]).astype(float)
        covariance = _SHARED * np.exp(-square / (2 * _SHARED_DECADES**2))
        covariance += same * (_OPTIMIZER + _OWN * np.exp(-square / (2 * _OWN_DECADES**2)))
        return covariance + _FIELDS * self._encoder.alike(left.fields, right.fields)


class _Encoder:
    """Turns Optuna parameters into numbers."""

    def __init__(self, space: Space) -> None:
        self._optimizers = {branch.name: index for index, branch in enumerate(space.optimizers)}
        self._rates: dict[str, Range | Choice | Fixed | None] = {b.name: b.get("lr") for b in space.optimizers}
        self._fields: dict[str, Range | Choice] = {}
        for name, field in space.parameters():
            if name != "optimizer" and name.rpartition(".")[2] != "lr":
                self._fields[parameter(name, field, field.centre)[0]] = field
        names = dict.fromkeys(name.rpartition(".")[2] for name in self._fields)
        self._columns = {name: column for column, name in enumerate(names)}
        self._numbers: dict[tuple[str, Scalar], float] = {}
        choices = {name.rpartition(".")[2] for name, field in self._fields.items() if isinstance(field, Choice)}
        self._is_choice = np.array([name in choices for name in self._columns], dtype=bool)

    def points(self, plans: Sequence[Parameters]) -> _Points:
        """Return plans as numbers."""
        first = next(iter(self._optimizers))
        chosen = [str(plan.get("optimizer", first)) for plan in plans]
        fields = np.full((len(plans), len(self._columns)), np.nan)
        for row, plan in enumerate(plans):
            for name, value in plan.items():
                if name in self._fields:
                    short = name.rpartition(".")[2]
                    fields[row, self._columns[short]] = self._number(short, self._fields[name], value)
        return _Points(
            optimizer=np.array([self._optimizers.get(name, -1) for name in chosen]),
            decades=np.array([self._decades(name, plan) for name, plan in zip(chosen, plans, strict=True)]),
            fields=fields,
        )

    def alike(self, left: Array, right: Array) -> Array:
        """Return how alike points are in the other fields: 1 for the same, 0 for nothing in common."""
        if not self._columns:
            return np.ones((len(left), len(right)))
        found = np.zeros((len(left), len(right)))
        for column, is_choice in enumerate(self._is_choice):
            mine, theirs = left[:, column][:, None], right[:, column][None, :]
            both_lack = np.isnan(mine) & np.isnan(theirs)
            near = mine == theirs if is_choice else np.exp(-((mine - theirs) ** 2) / (2 * _FIELD_LENGTH**2))
            found += np.where(both_lack, 1.0, np.nan_to_num(near.astype(float)))
        return found / len(self._columns)

    def _decades(self, optimizer: str, plan: Parameters) -> float:
        field, value = self._rates.get(optimizer), plan.get(f"{optimizer}.lr")
        if field is None or not isinstance(value, int | float) or value <= 0:
            return 0.0
        centre = field.centre
        return log10(value / centre) if isinstance(centre, int | float) and centre > 0 else 0.0

    def _number(self, name: str, field: Range | Choice, value: Scalar) -> float:
        if isinstance(field, Choice):
            return self._numbers.setdefault((name, value), float(len(self._numbers)))
        number = float(value or 0)
        return field.place(1 - number if field.scale == "log_of_one_minus" else number)


def _prior_mean(points: _Points) -> Array:
    away = np.abs(points.decades[:, None] - OFFSETS[None, :])
    mean: Array = _PRIOR_SLOPE * np.minimum(away, _PRIOR_MOST) ** 2
    return mean


def _inverse(covariance: Array) -> Array:
    return np.linalg.inv(covariance + _NOISE * np.eye(len(covariance))).astype(np.float64)


def _below(standard: Array) -> Array:
    """Return the normal distribution's share below each number."""
    shares = [(1 + erf(one / sqrt(2))) / 2 for one in standard.ravel().tolist()]
    return np.array(shares).reshape(standard.shape)


def _worth_a_look(observations: Sequence[Observation]) -> dict[int, float]:
    """Return the places of the trials that are looked at, in their order, with their scores."""
    count, order = len(observations), best_first(observations)
    latest = max(0, count - _MOST_TRIALS // 2)
    is_few = count <= _MOST_TRIALS
    kept = {
        index: score_of_rank(rank, count)
        for rank, index in enumerate(order)
        if is_few or rank < _MOST_TRIALS // 2 or index >= latest
    }
    return dict(sorted(kept.items()))
