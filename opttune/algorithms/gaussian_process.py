"""A Gaussian process over the results of trials, and the expected improvement of candidates.

This is expected improvement (Mockus 1975; Jones, Schonlau and Welch 1998, "Efficient global optimization of expensive
black-box functions") over a Gaussian process with a prior mean (Rasmussen and Williams 2006, section 2.7). It departs
from the textbook in these points:

- The targets are normal scores of ranks (`observations`), so the kernel scales can be fixed. A fit of these scales to
  the few trials of a search would mostly fit noise.
- A learning rate counts in decades from its prior centre. All optimizers share a part of the kernel, so each learns
  from the others. Other fields are matched by their last name, and each counts by its place in its own range.
- The prior is in the mean, which rises with the distance from the centre. In pi-BO (Hvarfner et al. 2022,
  https://arxiv.org/abs/2204.11051) it is a factor on the acquisition. With the prior in the mean, trials also show how
  far all priors are off. The improvement is averaged over the posterior of that shift (`prior_shift`), as Snoek,
  Larochelle and Adams (2012, https://arxiv.org/abs/1206.2944) average over kernel parameters.
- In long trainings, the first rung is a small share of the length, and the model separates the results of different
  rungs. The best learning rate of a shorter training is mostly higher (Bjorck et al. 2024,
  https://arxiv.org/abs/2409.19913). Therefore a rate counts as lower by a slope for each rung below the furthest one
  seen. The improvement is averaged over the posterior of that slope too. Scores from lower rungs are noisier.
  Multi-fidelity models also have the length as an input (Kandasamy et al. 2017, https://arxiv.org/abs/1703.06240).
- Pending trials lower the variance around them but not the mean, like the hallucinated observations of Desautels,
  Krause and Burdick (2014, "Parallelizing exploration-exploitation tradeoffs in Gaussian process bandit optimization").
- Scores are noisy, so improvement is measured from the best posterior mean at an observed trial, not the best score.

Shapes: `n` observed trials, `p` pending ones, `m` candidates, `s` shifts, `l` slopes, `d` fields besides the learning
rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import erf, log10, pi, sqrt

import numpy as np
import numpy.typing as npt

from opttune.algorithms.observations import Observation, best_first, score_of_rank
from opttune.algorithms.prior_shift import SHIFTS, posterior
from opttune.space.model import Choice, Fixed, Range, Scalar, Space

Array = npt.NDArray[np.float64]

# The scales of the kernel and the mean were chosen by hand. benchmarks/search.py replays the whole model. Without it
# and mutations (`ours:no_learning`), the best after 10 trainings ranks at 1.3% of a table instead of 0.8%. It ranks at
# 2.2% instead of 1.1% with priors 1.5 decades too high, and at 2.6% instead of 1.6% with priors that much too low
# (docs/the_search.md).
_SHARED, _OWN, _OPTIMIZER, _FIELDS, _NOISE = 0.5, 0.5, 0.3, 0.3, 0.05
"""Variances of the learning-rate curve that all optimizers share, of each optimizer's own curve, of the optimizers'
levels, of all other fields together, and of another seed. The scores themselves have a variance of about 1."""
_SHARED_DECADES, _OWN_DECADES, _FIELD_LENGTH = 0.7, 0.5, 0.3
"""Length scales of the kernels: in decades for the two learning-rate curves, as a share of a range for other fields."""
_PRIOR_SLOPE, _PRIOR_MOST = 0.5, 2.0
"""The prior mean is the first number times the squared distance from the centre in decades. It rises no further beyond
a distance of the second number."""
_LOOK_NOISE = 0.1
"""Variance that each rung below the furthest one adds to a score. Chosen by hand."""
_SLOPES: Array = np.array([-0.1, 0.0, 0.1, 0.2, 0.3])
_LOG_PRIOR_OF_SLOPES: Array = np.log([0.5, 1.0, 1.0, 1.0, 0.5])
"""Decades by which the best learning rate falls from one rung to the next, shape `(l,)`, and the logarithm of the
prior of each, up to a constant. From one rung to the next, a training is three to five times as long. Measured
exponents of the length range from -0.6 to 0.3."""
_MOST_TRIALS = 150
"""Maximum number of trials in the model: half of them are the best, the others the latest. With this limit, a
decision takes less than 50 ms with 1,000 trials (`benchmarks/ask_tell.py`). The number was chosen by hand."""
_LEAST_WEIGHT = 1e-3
"""The model omits shifts that are less likely than this, relative to the likeliest, to save time. Chosen by hand."""


@dataclass(frozen=True, slots=True)
class _Points:
    """Configurations as numbers.

    Attributes:
        optimizer: Index of the optimizer, shape `(n,)`; -1 if the space does not have it.
        decades: Decades of the learning rate from its prior centre, shape `(n,)`.
        follows: Whether the prior shifts with the others, 1 or 0, shape `(n,)`. That of a module's own rate does not.
        fields: The other fields, shape `(n, d)`; NaN if a configuration lacks a field.
        below: Number of rungs by which the rung of the score is below the furthest one, shape `(n,)`.
    """

    optimizer: npt.NDArray[np.int64]
    decades: Array
    follows: Array
    fields: Array
    below: Array

    def first(self, count: int) -> "_Points":
        """Return the first `count` points."""
        return _Points(*(getattr(self, one.name)[:count] for one in fields(self)))

    def at_full_length(self, slope: float) -> "_Points":
        """Return the points as if they had reached the furthest rung."""
        return replace(self, decades=self.decades - slope * self.below)


class GaussianProcess:
    """A model of the scores over a space.

    Args:
        space: The search space.
        observations: The results of trials, at least one.
        pending: Parameters of trials without a result yet.
        by_rung: Whether the model separates the results of different rungs.

    Attributes:
        shift_probabilities: The posterior probability of each of `SHIFTS`, shape `(s,)`.
    """

    def __init__(
        self,
        space: Space,
        observations: Sequence[Observation],
        pending: Sequence[Mapping[str, Scalar]] = (),
        by_rung: bool = False,
    ) -> None:
        self._encoder = _Encoder(space)
        scores = _training_scores(observations, by_rung)
        observed = [observations[index].parameters for index in scores]
        known = self._encoder.points([*observed, *pending[-_MOST_TRIALS:]])
        if by_rung:
            known.below[: len(observed)] = _rungs_below(observations)[list(scores)]
        is_short = known.below.any()
        slopes = _SLOPES if is_short else np.zeros(1)
        targets = np.array(list(scores.values()))
        self._fits = [_Fit(self._encoder, known.at_full_length(slope), targets) for slope in slopes.tolist()]
        likelihood = np.array([fit.log_likelihood for fit in self._fits])
        # joint over slopes and shifts, shape (l, s)
        self._weights = posterior(likelihood + (_LOG_PRIOR_OF_SLOPES[:, None] if is_short else 0.0))
        self.shift_probabilities: Array = self._weights.sum(0)

    @property
    def shift(self) -> float:
        """The likeliest shift of all priors, in decades."""
        return float(SHIFTS[self.shift_probabilities.argmax()])

    def expected_improvement(self, candidates: Sequence[Mapping[str, Scalar]]) -> Array:
        """Return the expected improvement of each candidate over the best trial so far, shape `(m,)`.

        Args:
            candidates: The parameters of each candidate.
        """
        points, most = self._encoder.points(candidates), self._weights.max()
        total = np.zeros(len(candidates))
        for fit, weights in zip(self._fits, self._weights, strict=True):
            likely = weights > _LEAST_WEIGHT * most
            if likely.any():
                total += fit.expected_improvement(points, likely) @ weights[likely]
        return total


class _Fit:
    """The process for one slope of the learning rate over the rungs.

    Args:
        encoder: The encoder of the space.
        known: The observed trials, followed by the pending ones.
        scores: The scores of the observed trials, shape `(n,)`.

    Attributes:
        log_likelihood: The log-likelihood of the scores for each shift, shape `(s,)`, up to a constant.
    """

    def __init__(self, encoder: "_Encoder", known: _Points, scores: Array) -> None:
        self._encoder, self._known, count = encoder, known, len(scores)
        observed = known.first(count)
        all_known = self._kernel(known, known)
        covariance, noise = all_known[:count, :count], _NOISE + _LOOK_NOISE * known.below
        precision = _noisy_inverse(covariance, noise[:count])
        self._precision_of_known = _noisy_inverse(all_known, noise) if len(noise) > count else precision
        # a column for each shift
        residual = scores[:, None] - _prior_mean(observed)
        # the constant of the mean by generalized least squares, as in Jones et al. 1998
        self._level = precision.sum(0) @ residual / precision.sum()
        self._weights = precision @ (residual - self._level)
        determinant = np.linalg.slogdet(precision)[1]
        self.log_likelihood: Array = determinant / 2 - np.sum((residual - self._level) * self._weights, axis=0) / 2
        self._best = self._mean(observed, covariance).min(0)

    def expected_improvement(self, points: _Points, likely: npt.NDArray[np.bool_]) -> Array:
        """Return the expected improvement of some points, with a column for each likely shift."""
        cross = self._kernel(points, self._known)
        variance = _SHARED + _OWN + _OPTIMIZER + _FIELDS - np.sum(cross @ self._precision_of_known * cross, axis=1)
        deviation = np.sqrt(np.maximum(variance, 1e-9))[:, None]
        gain = (self._best - self._mean(points, cross[:, : len(self._weights)]))[:, likely]
        standard = gain / deviation
        density = np.exp(-(standard**2) / 2) / sqrt(2 * pi)
        expected: Array = gain * _normal_cdf(standard) + deviation * density
        return expected

    def _mean(self, points: _Points, cross: Array) -> Array:
        """Return the posterior mean, shape `(m, s)`, from the covariances with the observed trials, shape `(m, n)`."""
        mean: Array = _prior_mean(points) + self._level + cross @ self._weights
        return mean

    def _kernel(self, left: _Points, right: _Points) -> Array:
        """Return the covariances of two sets of points, with a row for each left point and a column for each right one.

        The kernel is a sum of squared-exponential kernels: of the learning rate for all optimizers, of the learning
        rate within an optimizer, and of the other fields.
        """
        square = (left.decades[:, None] - right.decades[None, :]) ** 2
        same = (left.optimizer[:, None] == right.optimizer[None, :]).astype(float)
        covariance = _SHARED * np.exp(-square / (2 * _SHARED_DECADES**2))
        covariance += same * (_OPTIMIZER + _OWN * np.exp(-square / (2 * _OWN_DECADES**2)))
        return covariance + _FIELDS * self._encoder.similarity(left.fields, right.fields)


class _Encoder:
    """An encoder that turns Optuna parameters into numbers."""

    def __init__(self, space: Space) -> None:
        self._optimizers = {branch.name: index for index, branch in enumerate(space.optimizers)}
        self._own = {branch.name for branch in space.optimizers if branch.is_own}
        self._rate_names = {branch.name: f"{branch.name}.{branch.rate_name}" for branch in space.optimizers}
        self._rates: dict[str, Range | Choice | Fixed | None] = {b.name: b.rate for b in space.optimizers}
        self._fields: dict[str, Range | Choice] = {}
        for name, field in space.parameters():
            if name != "optimizer" and name not in self._rate_names.values():
                self._fields[field.optuna_name(name)] = field
        names = dict.fromkeys(map(_without_branch, self._fields))
        self._columns = {name: column for column, name in enumerate(names)}
        self._numbers: dict[tuple[str, Scalar], float] = {}
        choices = {_without_branch(name) for name, field in self._fields.items() if isinstance(field, Choice)}
        self._is_choice = np.array([name in choices for name in self._columns], dtype=bool)

    def points(self, configurations: Sequence[Mapping[str, Scalar]]) -> _Points:
        """Return configurations as numbers."""
        first = next(iter(self._optimizers))
        optimizers = [str(one.get("optimizer", first)) for one in configurations]
        values = np.full((len(configurations), len(self._columns)), np.nan)
        for row, configuration in enumerate(configurations):
            for name, value in configuration.items():
                if name in self._fields:
                    short = _without_branch(name)
                    values[row, self._columns[short]] = self._number(short, self._fields[name], value)
        return _Points(
            optimizer=np.array([self._optimizers.get(name, -1) for name in optimizers]),
            decades=np.array([self._decades(*pair) for pair in zip(optimizers, configurations, strict=True)]),
            follows=np.array([float(name not in self._own) for name in optimizers]),
            fields=values,
            below=np.zeros(len(configurations)),
        )

    def similarity(self, left: Array, right: Array) -> Array:
        """Return the similarity of the other fields of points, from 0 to 1, shape `(n, m)`.

        Args:
            left: The fields of the left points, shape `(n, d)`.
            right: The fields of the right points, shape `(m, d)`.
        """
        if not self._columns:
            return np.ones((len(left), len(right)))
        total = np.zeros((len(left), len(right)))
        for column, is_choice in enumerate(self._is_choice):
            one, other = left[:, column][:, None], right[:, column][None, :]
            both_lack = np.isnan(one) & np.isnan(other)
            near = one == other if is_choice else np.exp(-((one - other) ** 2) / (2 * _FIELD_LENGTH**2))
            total += np.where(both_lack, 1.0, np.nan_to_num(near.astype(float)))
        return total / len(self._columns)

    def _decades(self, optimizer: str, configuration: Mapping[str, Scalar]) -> float:
        field, value = self._rates.get(optimizer), configuration.get(self._rate_names.get(optimizer, ""))
        if field is None or not isinstance(value, int | float) or value <= 0:
            return 0.0
        centre = field.centre
        return log10(value / centre) if isinstance(centre, int | float) and centre > 0 else 0.0

    def _number(self, name: str, field: Range | Choice, value: Scalar) -> float:
        if isinstance(field, Choice):
            return self._numbers.setdefault((name, value), float(len(self._numbers)))
        return field.place(field.from_optuna(value))


def _without_branch(name: str) -> str:
    """Return a field's name without its optimizer or schedule."""
    return name.partition(".")[2] or name


def _prior_mean(points: _Points) -> Array:
    """Return the prior mean of points for each shift, shape `(n, s)`."""
    distance = np.abs(points.decades[:, None] - points.follows[:, None] * SHIFTS[None, :])
    mean: Array = _PRIOR_SLOPE * np.minimum(distance, _PRIOR_MOST) ** 2
    return mean


def _noisy_inverse(covariance: Array, noise: Array) -> Array:
    """Return the inverse of a covariance, shape `(n, n)`, plus the variance of the noise, shape `(n,)`."""
    return np.linalg.inv(covariance + np.diag(noise)).astype(np.float64)


def _rungs_below(observations: Sequence[Observation]) -> Array:
    """Return by how many rungs each trial's last one is below the furthest, shape `(n,)`; 0 for a failed trial."""
    reached = np.array([len(one.values) for one in observations], dtype=float)
    return np.where(reached > 0, reached.max() - reached, 0.0)


def _normal_cdf(standard: Array) -> Array:
    """Return the standard normal distribution function at each number, in the same shape."""
    shares = [(1 + erf(one / sqrt(2))) / 2 for one in standard.ravel().tolist()]
    return np.array(shares).reshape(standard.shape)


def _training_scores(observations: Sequence[Observation], by_rung: bool) -> dict[int, float]:
    """Return the indices of the trials in the model, ascending, with their scores."""
    count, order = len(observations), best_first(observations, by_rung)
    latest = max(0, count - _MOST_TRIALS // 2)
    is_few = count <= _MOST_TRIALS
    kept = {
        index: score_of_rank(rank, count)
        for rank, index in enumerate(order)
        if is_few or rank < _MOST_TRIALS // 2 or index >= latest
    }
    return dict(sorted(kept.items()))
