"""The statistics of a verdict: means, and paired t-tests against one reference with Holm's correction.

A paired t-test (Student 1908, "The probable error of a mean") compares each recipe with the reference, seed by seed.
The step-down procedure of Holm (1979, "A simple sequentially rejective multiple test procedure") corrects several
comparisons. It bounds the probability of any false claim, even for dependent comparisons; these depend on each other,
since they share the reference. Intervals are not corrected, because they describe one recipe or difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from statistics import mean, stdev

from scipy.stats import t, ttest_rel

ERROR_RATE = 0.02
"""Probability that a verdict claims any difference that does not exist. Stricter than the customary 0.05: a claim
changes how people train, and the t-test is exact only for normal values. Chosen by hand."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95% interval.

    Attributes:
        mean: The mean.
        half_width: Half the width of its 95% t-interval; None for fewer than two values.
        count: The number of values.
    """

    mean: float
    half_width: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Paired:
    """One paired comparison with the reference.

    Attributes:
        difference: Mean of other minus reference over the common seeds, with an uncorrected interval.
        p_value: The two-sided p-value of the paired t-test; None if there is none.
        corrected_p_value: The p-value after Holm's correction for all comparisons of the verdict.
    """

    difference: Interval
    p_value: float | None
    corrected_p_value: float | None

    @property
    def is_real(self) -> bool:
        """Whether the difference is claimed."""
        return self.corrected_p_value is not None and self.corrected_p_value <= ERROR_RATE


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of values and its 95% t-interval.

    Args:
        values: At least one.

    Example:
        >>> found = interval([1.0, 2.0, 3.0])
        >>> found.mean, round(found.half_width, 2)
        (2.0, 2.48)
    """
    count = len(values)
    if count < 2:
        return Interval(mean(values), None, count)
    return Interval(mean(values), float(t.ppf(0.975, count - 1)) * stdev(values) / sqrt(count), count)


def compare(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[Paired | None]:
    """Compare others with one reference, seed by seed, and correct for the number of comparisons.

    The common factors of one seed (initial weights, order of the data) cancel in the differences. The reference must be
    chosen before these values are seen, or the correction is too small.

    Args:
        pairs: For each other recipe, the reference's values and its own, for the same seeds in the same order.

    Returns:
        A comparison for each other recipe; None without a seed. If all differences are the same number, the noise is
        unknown, and no difference is claimed.

    Example:
        >>> reference = [1.0, 1.1, 1.3]
        >>> same, better = compare([(reference, [1.1, 1.0, 1.3]), (reference, [0.5, 0.61, 0.8])])
        >>> same.is_real, better.is_real, round(better.difference.mean, 2)
        (False, True, -0.5)
    """
    differences = [[y - x for x, y in zip(*pair, strict=True)] for pair in pairs]
    p_values = [_p_value(*pair) for pair in pairs]
    return [
        Paired(interval(difference), p_value, corrected) if difference else None
        for difference, p_value, corrected in zip(differences, p_values, holm(p_values), strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values after Holm's correction for their number; None stays None and does not count.

    Example:
        >>> holm([0.01, None, 0.04, 0.03])
        [0.03, None, 0.06, 0.06]
    """
    known = sorted((p_value, index) for index, p_value in enumerate(p_values) if p_value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p_value, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p_value))
        corrected[index] = highest
    return corrected


def _p_value(reference: Sequence[float], other: Sequence[float]) -> float | None:
    differences = [y - x for x, y in zip(reference, other, strict=True)]
    if len(differences) < 2 or _is_one_number(differences):
        return None
    p_value = float(ttest_rel(other, reference).pvalue)
    return None if isnan(p_value) else p_value


def _is_one_number(differences: Sequence[float]) -> bool:
    # rounding makes equal differences unequal in their last digits
    spread = max(differences) - min(differences)
    return spread <= 1e-9 * max(1e-300, *map(abs, differences))
