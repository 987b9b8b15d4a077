"""One search's way up the ladder: from what its records say to the next move."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from math import isinf

from opttune.algorithms.draws import count_configurations
from opttune.algorithms.line_search import is_being_searched
from opttune.algorithms.successive_halving import Action, Replicate, TrialProgress, next_action, to_discard
from opttune.space.warmup import longest_warmup
from opttune.study.config import SearchConfig
from opttune.study.selection import top_candidates
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord

_EARLY_SHARE = 0.2
"""Where several train at a time, the finalists are trained again while at most this share of the budget is left."""

_LARGE_BUDGET = 100.0
"""Where several train at a time, what is left of a larger one for less than a training is not waited for."""


class SearchPolicy:
    """What a search does next, as a function of its trials.

    Args:
        config: What the search is told.
        survey: What a look at the model showed.

    Attributes:
        rungs: The rungs in optimizer steps, the full length last.
    """

    def __init__(self, config: SearchConfig, survey: ModelInspection) -> None:
        self._config = config
        self._recipes = count_configurations(config.space)
        self._known: list[_Known] = []
        self._finalists = config.reevaluation.candidate_count(config.budget)
        self.rungs = config.ladder.steps(survey.total_steps, longest_warmup(config.space))
        # so that the others train on meanwhile
        others = min(config.workers - 1.0, _EARLY_SHARE * config.budget)
        self._leaves_rest = config.workers > 1 and config.budget > _LARGE_BUDGET
        self._early = int(self.rungs[-1] * others) if self._finalists else 0

    def next_move(
        self, records: Sequence[TrialRecord], steps_left: int, repeating: Collection[int] = ()
    ) -> Action | None:
        """Return what to train next; None where nothing is left to do or to pay.

        Args:
            records: All trials.
            steps_left: Optimizer steps that may still be spent.
            repeating: Trials whose recipes are trained on the second seed just now.
        """
        repeats = [] if self._is_limited(records) else self._to_repeat(records)
        repeats = [number for number in repeats if number not in repeating]
        if self._early:
            # who becomes a finalist after these were chosen is not waited for
            repeated = sum(bool(record.repeats) for record in records)
            repeats = repeats[: max(0, self._finalists - repeated - len(repeating))]
        standings = self._standings(records)
        rest = steps_left - self._held_back(records, len(repeats))
        move = None if repeats and rest <= self._early else self._climb(records, standings, rest)
        if move is None and repeats and steps_left >= self.rungs[-1]:
            return Replicate(repeats[0])
        return move or self._climb(records, standings, steps_left)

    def _climb(
        self, records: Sequence[TrialRecord], standings: Sequence[TrialProgress], steps_left: int
    ) -> Action | None:
        is_limited = self._is_limited(records)
        return next_action(
            self._config.ladder,
            self.rungs,
            standings,
            steps_left,
            begun_steps=next((record.saved_steps for record in records if record.waits_to_begin), 0),
            may_start=not is_limited and (isinf(self._recipes) or count_begun(records) < self._recipes),
            # as long as none has finished, those that died are made up for
            uses_up=not (is_limited or self._leaves_rest) or all(record.value is None for record in records),
            at_once=_at_once(records),
            is_held=partial(self._is_held, standings),
        )

    def _is_held(self, standings: Sequence[TrialProgress], one: TrialProgress) -> bool:
        return self._config.ladder.line_search and is_being_searched(self._config.space, standings, one.optimizer)

    def _is_limited(self, records: Sequence[TrialRecord]) -> bool:
        most = self._config.most_trials
        return most is not None and count_begun(records) >= most

    def _to_repeat(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the finalists that were not trained on the second seed yet, where there is more than one."""
        best = self.finalists(records)
        return [number for number in best if len(best) > 1 and not records[number].repeats]

    def _held_back(self, records: Sequence[TrialRecord], to_repeat: int) -> int:
        """Return the steps that are held back for the finalists, as many as are still to come or to be repeated."""
        to_come = max(0, self._finalists - sum(record.value is not None for record in records))
        return self.rungs[-1] * (to_repeat + to_come)

    def finalists(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the trials any of which may turn out to be the best on a second seed, the best first."""
        best = top_candidates(records, self._finalists, self._config.mode)
        return [record.number for record in best]

    def next_rung(self, record: TrialRecord) -> int:
        """Return the optimizer step to which a trial is trained next."""
        return next(rung for rung in self.rungs if rung > record.steps)

    def surplus(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the paused trials that can be given up, as none of them will be promoted."""
        return to_discard(self._config.ladder, self.rungs, self._standings(records), _at_once(records))

    def why_ended(self, records: Sequence[TrialRecord]) -> str:
        """Return a sentence where the search ends before its limits, since nothing is left to try; else empty."""
        begun = count_begun(records)
        if begun < self._recipes or (self._config.most_trials is not None and begun >= self._config.most_trials):
            return ""
        return f"all {begun} recipes of the space {self._config.space.name} have been tried"

    def _standings(self, records: Sequence[TrialRecord]) -> list[TrialProgress]:
        sign = 1.0 if self._config.mode == "min" else -1.0
        # a record stays the same object until something is written to its trial
        known = chain(self._known, repeat(None))
        self._known = [
            one if one is not None and one.record is record else _Known(record, _standing(record, sign))
            for record, one in zip(records, known, strict=False)
        ]
        return [one.standing for one in self._known if one.standing is not None]


@dataclass(frozen=True, slots=True)
class _Known:
    record: TrialRecord
    standing: TrialProgress | None


def _at_once(records: Sequence[TrialRecord]) -> int:
    """Return how many trials are trained at a time, of all processes, the one that is decided on included."""
    return 1 + sum(record.is_running for record in records)


def count_begun(records: Sequence[TrialRecord]) -> int:
    """Return how many trials are trained, or have been up to a rung or their end."""
    return sum(record.last is not None or record.is_running for record in records)


def _standing(record: TrialRecord, sign: float) -> TrialProgress | None:
    """Return where a trial stands; None before its first rung or end."""
    if record.last is None:
        return None
    values = [pause.value for pause in record.pauses]
    values += [] if record.value is None else [record.value]
    return TrialProgress(
        number=record.number,
        values=tuple(sign * value for value in values if value is not None),
        steps=record.steps,
        stopped_at=record.stopped_at,
        is_paused=record.is_paused,
        optimizer=record.recipe.optimizer.name if record.recipe else "",
        rate=_rate(record),
    )


def _rate(record: TrialRecord) -> float | None:
    rate = record.recipe.optimizer.get("lr") if record.recipe else None
    return float(rate) if isinstance(rate, int | float) else None
