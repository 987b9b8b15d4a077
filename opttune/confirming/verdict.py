"""`Verdict`: the result of the trainings on several seeds, in numbers and sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from opttune.confirming.candidates import Candidate
from opttune.confirming.statistics import Interval, Paired, compare, interval
from opttune.job import Role, TrainingJob
from opttune.recipe import Recipe
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord

_FEW_SEEDS = 3
"""With at most this many seeds, even large differences may not be distinguishable."""


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """The result of one candidate.

    Attributes:
        candidate: The candidate.
        values: Its value on each trained seed; None if the training gave none.
        spread: The mean of its values and its 95% interval; None if it has no values.
        against: Its comparison with the winner of the search; None for the winner, and if there are no common seeds.
    """

    candidate: Candidate
    values: Mapping[int, float | None]
    spread: Interval | None
    against: Paired | None

    @property
    def failures(self) -> int:
        """The number of seeds on which it diverged or failed, and gave no value."""
        return sum(value is None for value in self.values.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of the winner of a search with other candidates, on seeds that the search did not use.

    Attributes:
        study: Name of the study.
        monitor: The metric.
        mode: `min` or `max`.
        seeds: The seeds.
        results: The candidates, the winner of the search first.
        sentences: The conclusions, the main sentence first.
        run_id: MLflow's id of the search's run; None if it is unknown.
    """

    study: str
    monitor: str
    mode: str
    seeds: tuple[int, ...]
    results: tuple[CandidateResult, ...]
    sentences: tuple[str, ...]
    run_id: str | None = None

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values for JSON."""
        return {
            "study": self.study,
            "run_id": self.run_id,
            "monitor": self.monitor,
            "mode": self.mode,
            "seeds": list(self.seeds),
            "verdict": self.sentences[0] if self.sentences else "",
            "notes": list(self.sentences[1:]),
            "candidates": [_row(result) for result in self.results],
        }


def study_verdict(study: FrozenStudy, run_id: str | None = None) -> Verdict | None:
    """Return the verdict from a study's trainings on new seeds; None if there are none yet."""
    if not study.confirmed:
        return None
    candidates = [Candidate.from_dict(stored) for stored in study.confirmed["candidates"]]
    seeds = tuple(study.confirmed["seeds"])
    values = [_values(study.runs, candidate.recipe, seeds) for candidate in candidates]
    if not any(value is not None for of_one in values for value in of_one.values()):
        return None
    results = _results(candidates, values)
    return Verdict(
        study=study.name,
        monitor=study.config.monitor,
        mode=study.config.mode,
        seeds=seeds,
        results=tuple(results),
        sentences=(
            *_sentences(results, study.config.mode, bool(study.confirmed.get("is_instance"))),
            *(f"{label} is left out: {why}" for label, why in study.confirmed.get("left_out", {}).items()),
        ),
        run_id=run_id,
    )


def _values(runs: Sequence[TrialRecord], recipe: Recipe | None, seeds: Sequence[int]) -> dict[int, float | None]:
    jobs = {TrainingJob(recipe, seed, Role.CONFIRMATION) for seed in seeds}
    ended = [run for run in runs if run.auxiliary in jobs and run.outcome is not None]
    found = {run.auxiliary.seed: run.value for run in ended if run.auxiliary is not None}
    return dict(sorted(found.items()))


def _results(candidates: Sequence[Candidate], values: Sequence[Mapping[int, float | None]]) -> list[CandidateResult]:
    winner = values[0]
    pairs: list[tuple[list[float], list[float]]] = []
    for other in values[1:]:
        both = [(x, y) for seed, x in winner.items() if x is not None and (y := other.get(seed)) is not None]
        pairs.append(([x for x, _ in both], [y for _, y in both]))
    against = iter(compare(pairs))
    return [
        CandidateResult(
            candidate,
            own,
            interval(known) if (known := [value for value in own.values() if value is not None]) else None,
            None if index == 0 else next(against),
        )
        for index, (candidate, own) in enumerate(zip(candidates, values, strict=True))
    ]


def _sentences(results: Sequence[CandidateResult], mode: str, is_instance: bool) -> list[str]:
    winner, *others = results
    main = "; ".join(_sentence(winner, other, mode) for other in others if other.against is not None)
    notes = [
        f"{result.candidate.label} gave no value on {result.failures} of {len(result.values)} seeds"
        for result in results
        if result.failures
    ]
    notes += [
        f"trials {', '.join(map(str, result.candidate.numbers))} have the same recipe "
        f"({result.candidate.label}): they are not distinguishable"
        for result in results
        if len(result.candidate.numbers) > 1
    ]
    seeds = len(winner.values)
    if seeds <= _FEW_SEEDS and any(other.against is not None and not other.against.is_real for other in others):
        notes.append(f"{seeds} seeds are too few for most differences: use --seeds 5")
    if is_instance:
        notes.append(
            "every training started from the weights of the given instance: the seeds changed the order of the data "
            "and the dropout alone. Give the class to test the recipes on other initial weights"
        )
    if any(_has_no_noise(other) for other in others):
        notes.append(
            "the seed changes nothing in these trainings: all differences are the same, so the noise is unknown, "
            "and no difference is claimed"
        )
    return [main, *notes] if main else notes


def _sentence(winner: CandidateResult, other: CandidateResult, mode: str) -> str:
    paired = other.against
    assert paired is not None
    other_is_better = (paired.difference.mean < 0) == (mode == "min")
    better, worse = (other, winner) if other_is_better else (winner, other)
    # a candidate without a value on some seeds is not better, whatever its other values
    if not paired.is_real or better.failures:
        return f"{other.candidate.label} and {winner.candidate.label} are not distinguishable at this budget"
    difference = plus_minus(abs(paired.difference.mean), paired.difference.half_width)
    return f"{better.candidate.label} beats {worse.candidate.label} by {difference} ({paired.difference.count} seeds)"


def _has_no_noise(result: CandidateResult) -> bool:
    paired = result.against
    if paired is None or paired.p_value is not None:
        return False
    return paired.difference.count > 1 and paired.difference.mean != 0


def plus_minus(value: float, half_width: float | None) -> str:
    """Return a value and half of its interval, to two digits of the interval.

    Example:
        >>> plus_minus(0.1234, 0.0344)
        '0.123 +/- 0.034'
        >>> plus_minus(12.34, None)
        '12.3'
    """
    if not half_width:
        return f"{value:.3g}"
    digits = max(0, 1 - floor(log10(half_width)))
    return f"{value:.{digits}f} +/- {half_width:.{digits}f}"


def _row(result: CandidateResult) -> dict[str, Any]:
    spread, paired = result.spread, result.against
    return {
        **result.candidate.to_dict(),
        "values": {str(seed): value for seed, value in result.values.items()},
        "mean": spread.mean if spread else None,
        "half_width": spread.half_width if spread else None,
        "difference": paired.difference.mean if paired else None,
        "difference_half_width": paired.difference.half_width if paired else None,
        "p_value": paired.p_value if paired else None,
        "corrected_p_value": paired.corrected_p_value if paired else None,
        "is_distinguishable": paired.is_real if paired else None,
    }
