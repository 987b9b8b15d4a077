"""The end of a search: its finalists are trained once more, on a second seed, before one is handed out.

The best of many trainings is in part the luckiest. What a finalist gives on a second seed tells how much of its value
was luck; the recipe that is handed out is the one with the best value to be expected on any seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import inf, isfinite
from statistics import fmean

from opttune.errors import InputError
from opttune.trial_record import TrialRecord


@dataclass(frozen=True, slots=True)
class Reevaluation:
    """How a search ends.

    Attributes:
        share: Share of the budget that is held back for the finalists, in [0, 1).
        most_candidates: So many of the best are trained again at most; 0 for none.

    Raises:
        InputError: A field is out of its range.

    Example:
        >>> Reevaluation().finalists(20.0), Reevaluation().finalists(10.0)
        (3, 0)
    """

    share: float = 0.15
    most_candidates: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(f"Reevaluation: share must be from 0 to below 1, got {self.share!r}.")
        if self.most_candidates < 0:
            raise InputError(f"Reevaluation: most_candidates must be at least 0, got {self.most_candidates!r}.")

    def finalists(self, budget: float) -> int:
        """Return how many of the best are trained again; none where a budget pays for one alone.

        Args:
            budget: Cost of the search in full trainings.
        """
        count = min(self.most_candidates, int(self.share * budget))
        return count if count > 1 else 0


def finalists(records: Sequence[TrialRecord], count: int, mode: str) -> list[TrialRecord]:
    """Return the trials with the best values on the search's own seed, the best first.

    Args:
        records: All trials.
        count: How many.
        mode: `min` or `max`.
    """
    sign = _sign(mode)
    finished = [record for record in records if record.value is not None]
    return nsmallest(count, finished, key=lambda record: (sign * (record.value or 0.0), record.number))


def expected_values(records: Sequence[TrialRecord], mode: str) -> dict[int, float]:
    """Return the value to be expected of each finished trial on any seed.

    Of a trial that was trained again it is the mean over its seeds, and the worst possible where it diverged on one.
    Of one that was not it is its value, shifted by as much as such means differ from the values on the search's seed.

    Args:
        records: All trials.
        mode: `min` or `max`.

    Returns:
        Number -> value.
    """
    own = {record.number: record.value for record in records if record.value is not None}
    repeated = [record for record in records if record.repeats]
    means = {record.number: mean for record in repeated if (mean := _mean(record, mode)) is not None}
    shifts = [mean - own[number] for number, mean in means.items() if isfinite(mean)]
    luck = fmean(shifts or [0.0])
    return {number: means.get(number, value + luck) for number, value in own.items()}


def best_record(records: Sequence[TrialRecord], mode: str) -> TrialRecord | None:
    """Return the trial with the best value to be expected on any seed, the earliest of equals, or None."""
    expected = expected_values(records, mode)
    if not expected:
        return None
    number = (min if mode == "min" else max)(expected, key=expected.__getitem__)
    return next(record for record in records if record.number == number)


def is_better(value: float | None, than: float | None, mode: str) -> bool:
    """Return whether a value beats another; any value beats none."""
    if value is None or than is None:
        return value is not None
    return value < than if mode == "min" else value > than


def luck_warning(records: Sequence[TrialRecord], best: TrialRecord, monitor: str, mode: str) -> str:
    """Return a sentence where the trial with the best value is not the one handed out; else empty."""
    luckiest = finalists(records, 1, mode)[0]
    if luckiest.number == best.number:
        return ""
    return (
        f"trial {luckiest.number} had the best {monitor} on the search's seed ({luckiest.value:.5g}), but "
        f"{_again(luckiest)} on a second one; trial {best.number} is better over both."
    )


def _again(record: TrialRecord) -> str:
    return ", ".join(str(again.reason) if again.value is None else f"{again.value:.5g}" for again in record.repeats)


def _mean(record: TrialRecord, mode: str) -> float | None:
    """Return the mean over the seeds that say something; None where there is only the search's own."""
    if record.value is None:
        return None
    if any(outcome.reason.is_divergence for outcome in record.repeats):
        return _sign(mode) * inf
    again = [outcome.value for outcome in record.repeats if outcome.value is not None]
    return fmean([record.value, *again]) if again else None


def _sign(mode: str) -> float:
    return 1.0 if mode == "min" else -1.0
