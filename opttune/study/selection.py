"""The choice of the returned recipe: the best trials are trained on a second seed, and their mean values decide.

The best of many noisy values is partly the luckiest: its value will probably not be reached again. This is the
optimizer's curse (Smith and Winkler 2006, "The optimizer's curse: skepticism and postdecision surprise in decision
analysis"), the winner's curse of auctions. Smith and Winkler shrink each value by a Bayesian prior. Here the top
candidates are re-evaluated on a second seed instead and compared by the mean over both; all others are shifted by the
average disappointment of those, a correction of the same kind without a prior. `opttune confirm` goes further.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from math import inf, isfinite
from statistics import fmean

from opttune.errors import InputError
from opttune.recipe import Recipe
from opttune.trial_record import TrialRecord


@dataclass(frozen=True, slots=True)
class Reevaluation:
    """How many of the best trials are re-evaluated on a second seed.

    Both defaults were chosen by hand; `benchmarks/repeats.py` compares the regret of two to five candidates on one or
    two further seeds. On recorded trainings re-evaluation neither costs nor saves anything (docs/the_search.md).

    Attributes:
        share: Share of the budget that is reserved for it, in [0, 1).
        most_candidates: The most trials to re-evaluate; 0 for none.

    Raises:
        InputError: A field is out of its range.

    Example:
        >>> Reevaluation().candidate_count(20.0), Reevaluation().candidate_count(10.0)
        (3, 0)
    """

    share: float = 0.15
    most_candidates: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(f"Reevaluation: share must be from 0 to below 1, got {self.share!r}.")
        if self.most_candidates < 0:
            raise InputError(f"Reevaluation: most_candidates must be at least 0, got {self.most_candidates!r}.")

    def candidate_count(self, budget: float) -> int:
        """Return how many of the best trials are re-evaluated; none if the reserved share pays for only one.

        Args:
            budget: Cost of the search in full trainings.
        """
        count = min(self.most_candidates, int(self.share * budget))
        return count if count > 1 else 0


def top_candidates(records: Sequence[TrialRecord], count: int, mode: str) -> list[TrialRecord]:
    """Return the trials with the best values on the search's own seed, the best first.

    Args:
        records: All trials.
        count: The most trials to return.
        mode: `min` or `max`.
    """
    sign = _sign(mode)
    finished = [record for record in records if record.value is not None]
    return nsmallest(count, finished, key=lambda record: (sign * (record.value or 0.0), record.number))


def expected_values(records: Sequence[TrialRecord], mode: str) -> dict[int, float]:
    """Return the expected value of each finished trial on any seed.

    For a re-evaluated trial, this is the mean over its seeds, or the worst possible value if it diverged on one. For
    any other trial, it is the trial's value, shifted by the average difference between those means and the values on
    the search's seed.

    Args:
        records: All trials.
        mode: `min` or `max`.

    Returns:
        Number -> value.
    """
    own = {record.number: record.value for record in records if record.value is not None}
    means = _means(records, mode)
    shift = _disappointment(records, mode)
    return {number: means.get(number, value + shift) for number, value in own.items()}


def _means(records: Sequence[TrialRecord], mode: str) -> dict[int, float]:
    return {one.number: mean for one in records if one.replicates and (mean := _mean(one, mode)) is not None}


def _disappointment(records: Sequence[TrialRecord], mode: str) -> float:
    """Return the average difference between the means of the re-evaluated trials and their values."""
    means = _means(records, mode)
    own = {one.number: one.value for one in records if one.value is not None}
    lost = [mean - own[number] for number, mean in means.items() if isfinite(mean)]
    return fmean(lost or [0.0])


def best_record(records: Sequence[TrialRecord], mode: str) -> TrialRecord | None:
    """Return the trial with the best expected value, the earliest of equals, or None if none has finished."""
    expected = expected_values(records, mode)
    if not expected:
        return None
    number = (min if mode == "min" else max)(expected, key=expected.__getitem__)
    return next(record for record in records if record.number == number)


def baseline_records(records: Sequence[TrialRecord], runs: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trainings of the baseline, its own run or trials.

    There are several if it was discarded, or ended by a rule of the guard, and trained anew.

    Args:
        records: All trials.
        runs: All auxiliary runs.
    """
    return [replace(one, recipe=Recipe.of_baseline()) for one in (*runs, *records) if one.is_baseline]


def baseline_record(records: Sequence[TrialRecord], runs: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the training of the baseline; None before it has started, and if it was discarded.

    Args:
        records: All trials.
        runs: All auxiliary runs.
    """
    found = [one for one in baseline_records(records, runs) if not one.was_discarded]
    # of one that a rule of the guard ended, the repetition without the rule counts
    return next((one for one in found if one.outcome is None or one.value is not None), found[0] if found else None)


def best_of(records: Sequence[TrialRecord], baseline: TrialRecord | None, mode: str) -> TrialRecord | None:
    """Return the answer of a search: the best trial, or the baseline if no trial beats it.

    A trial must be better in expectation, and not worse on the search's own seed.

    Args:
        records: All trials.
        baseline: The training of the baseline; None if there is none.
        mode: `min` or `max`.

    Returns:
        A trial, or the baseline's record; None if no trial has finished.
    """
    best = best_record(records, mode)
    if best is None or baseline is None or baseline.value is None or best.is_baseline:
        return best
    expected = expected_values(records, mode)
    own = expected.get(baseline.number) if baseline.auxiliary is None else None
    own = baseline.value + _disappointment(records, mode) if own is None else own
    beats = is_better(expected[best.number], own, mode) and not is_better(baseline.value, best.value, mode)
    return best if beats else baseline


def is_better(value: float | None, than: float | None, mode: str) -> bool:
    """Return whether a value beats another; any value beats None."""
    if value is None or than is None:
        return value is not None
    return value < than if mode == "min" else value > than


def luck_warning(records: Sequence[TrialRecord], best: TrialRecord, monitor: str, mode: str) -> str:
    """Return a sentence if the answer is not the trial with the best value; else an empty string."""
    luckiest = top_candidates(records, 1, mode)[0]
    if luckiest.number == best.number or best.is_baseline:
        return ""
    return (
        f"trial {luckiest.number} had the best {monitor} on the search's seed ({luckiest.value:.5g}), but "
        f"{_replicates(luckiest)} on a second one; trial {best.number} is better over both."
    )


def tie_warning(records: Sequence[TrialRecord], best: TrialRecord, monitor: str, mode: str) -> str:
    """Return a sentence if the answer's value is that of other trials too, to the last digit; else an empty string."""
    expected = expected_values(records, mode)
    equals = [number for number, value in expected.items() if value == expected.get(best.number)]
    if len(equals) < 2:
        return ""
    return (
        f"trials {', '.join(map(str, equals))} have the same {monitor} ({best.value:.5g}), and the first is the "
        "answer: a finer metric (--monitor), such as a loss, would tell them apart."
    )


def _replicates(record: TrialRecord) -> str:
    return ", ".join(str(one.reason) if one.value is None else f"{one.value:.5g}" for one in record.replicates)


def _mean(record: TrialRecord, mode: str) -> float | None:
    """Return the mean over the seeds with a value, or None if only the search's own seed has one."""
    if record.value is None:
        return None
    if any(outcome.reason.is_divergence for outcome in record.replicates):
        return _sign(mode) * inf
    replicates = [outcome.value for outcome in record.replicates if outcome.value is not None]
    return fmean([record.value, *replicates]) if replicates else None


def _sign(mode: str) -> float:
    return 1.0 if mode == "min" else -1.0
