"""Policies: they choose the next training from the records only."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from math import inf, isinf

from opttune.algorithms.draws import count_configurations
from opttune.algorithms.line_search import is_being_searched
from opttune.algorithms.rungs import ONE_TRAINING_BELOW, TrialProgress
from opttune.algorithms.successive_halving import Promote, Start, next_action, to_discard
from opttune.engines.devices import count_processes
from opttune.job import Role, TrainingJob
from opttune.space.model import Choice, Field, Range, Scalar, Space
from opttune.space.sample import default_parameters, default_recipe
from opttune.study.config import SearchConfig
from opttune.study.guard_rules import first_to_repeat, other_to_repeat, silenced
from opttune.study.selection import baseline_record, baseline_records, best_record, top_candidates
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord

_EARLY_SHARE = 0.2
"""With several workers, the top candidates are replicated while at most this share of the budget is left."""

_LARGE_BUDGET = 100.0
"""With several workers and a larger budget, a rest of less than one training is not waited for."""

_BASELINE_SHARE = 0.25
"""The baseline is trained once this share of the budget, or of the time, is spent: good recipes first."""

_BASELINE_END_SHARE = 0.5
"""From this share on, a baseline trial is trained to its end, whatever its rank, because users compare with it."""


_RACED_SHARE = 0.3
"""The first looks of a race cost at least this share of a training, before one of them is promoted. Chosen on TaskSet's
tasks for development, where it makes fifteen looks."""

_RACED_SHARE_OF_REST = 0.5
"""Where the budget pays for one training only, they cost at least this share of the rest. Chosen at a budget of 1.9 on
halves of TaskSet's tables for development, against `_RACED_SHARE` and two thirds: nothing else could use the rest."""

_MOST_RACED = 0.5
"""Where the budget pays for more than one training, line searches end for now once the first looks have cost this share
of a training. The rest then pays for a second one, the baseline or another trial. Chosen on the long live tasks for
development, where line searches alone cost up to 0.9 before."""

_UNTOUCHED: dict[str, Scalar] = {"accumulate_grad_batches": 1}
"""Neutral values of fields outside optimizer and schedule, if they are not None."""


@dataclass(frozen=True, slots=True)
class Train:
    """The action that starts an auxiliary run, or resumes it.

    Attributes:
        job: The training.
    """

    job: TrainingJob


@dataclass(frozen=True, slots=True)
class Repeat:
    """The action that repeats a trial's recipe, after the rule of the guard that ended it was turned off.

    Attributes:
        number: The trial.
    """

    number: int


@dataclass(frozen=True, slots=True)
class StartBaseline:
    """The action that starts the trial of the baseline, the space's recipe `own` with nothing moved."""


Action = Start | StartBaseline | Promote | Train | Repeat


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of a search so far.

    Attributes:
        steps: Optimizer steps.
        seconds: Wall time of this process.
        is_late: Whether its time is over; promised trainings that have started are still finished.
    """

    steps: int
    seconds: float = 0.0
    is_late: bool = False


class Policy(ABC):
    """Chooses the next training and its end.

    Args:
        config: The configuration of the search.
        total_steps: Optimizer steps of the full length.

    Attributes:
        rungs: The rungs in optimizer steps, the full length last.
        roles: The roles of its trainings.
    """

    roles: frozenset[Role] = frozenset()

    def __init__(self, config: SearchConfig, total_steps: int) -> None:
        self.config = config
        self.rungs = config.rungs(total_steps)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the full length."""
        return self.rungs[-1]

    def next_rung(self, record: TrialRecord) -> int:
        """Return the optimizer step to which a training goes next."""
        return next(rung for rung in self.rungs if rung > record.steps)

    def look_steps(
        self, record: TrialRecord, records: Sequence[TrialRecord], runs: Sequence[TrialRecord], steps_spent: int
    ) -> int:
        """Return how long a copy of a training is looked at on its next rung; 0 if it is not.

        Args:
            record: The training, claimed.
            records: All trials.
            runs: All auxiliary runs.
            steps_spent: Optimizer steps spent so far.
        """
        return 0

    @abstractmethod
    def next_action(self, records: Sequence[TrialRecord], runs: Sequence[TrialRecord], spent: Spent) -> Action | None:
        """Return what to train next; None if nothing is left to do or to pay.

        Args:
            records: All trials.
            runs: All auxiliary runs.
            spent: The cost so far.
        """

    def top_candidates(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the trials any of which may turn out to be the best on a further seed, the best first."""
        return []

    def to_discard(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the paused trials that will not be promoted."""
        return []

    def why_ended(self, records: Sequence[TrialRecord]) -> str:
        """Return a sentence where nothing is left to try before a limit is reached; else empty."""
        return ""


class SearchPolicy(Policy):
    """The policy of a search: trials by successive halving, the baseline once, then replicates of the top candidates.

    Args:
        config: The configuration of the search.
        inspection: The inspection of the model.
    """

    roles = frozenset({Role.TRIAL, Role.BASELINE, Role.REPLICATE})

    def __init__(self, config: SearchConfig, inspection: ModelInspection) -> None:
        super().__init__(config, inspection.total_steps)
        self._recipes = count_configurations(config.space)
        self._known: list[_Known] = []
        self._candidates = config.reevaluation.candidate_count(config.budget)
        self._baseline = TrainingJob(None, config.seed, Role.BASELINE, label=inspection.replaced)
        self._halving = config.halving_for(self.total_steps)
        # a second fit would start the processes again
        self._in_ranks = count_processes(config.trainer) > 1
        # a smaller budget does not pay for it: the baseline is one of the looks
        is_paid = config.budget >= self._halving.baseline_from
        self._has_baseline = config.with_baseline and inspection.has_own_optimizer and is_paid
        self._is_in_space = baseline_parameters(config.space) is not None
        # so the other workers can continue to train
        others = min(config.workers - 1.0, _EARLY_SHARE * config.budget)
        self._leaves_rest = config.workers > 1 and config.budget > _LARGE_BUDGET
        pays_for_one = config.budget < ONE_TRAINING_BELOW
        self._raced_share = max(_RACED_SHARE, _RACED_SHARE_OF_REST * (config.budget - 1) if pays_for_one else 0.0)
        self._raced_most = inf if pays_for_one else _MOST_RACED
        self._early = int(self.total_steps * others) if self._candidates else 0

    def next_action(self, records: Sequence[TrialRecord], runs: Sequence[TrialRecord], spent: Spent) -> Action | None:
        """Return what to train next; None if nothing is left to do or to pay."""
        runs = [run for run in runs if run.role in self.roles]
        # a started auxiliary run is finished before anything else, at each rung and after an interruption
        waiting = next((run for run in runs if run.state == "waiting"), None)
        if waiting is not None and waiting.auxiliary is not None:
            return Train(waiting.auxiliary)
        if spent.is_late:
            return None
        left = int(self.config.budget * self.total_steps) - spent.steps - self._promised(records, runs)
        baseline = baseline_record(records, runs)
        # the rest of the baseline's training is reserved until it has ended
        reserve = self._left_of(baseline) if self._has_baseline else 0
        # but its looks never at the price of a whole training
        looks = min(self._looks_of(baseline), max(0, left - reserve - self.total_steps))
        action = self._next_of_search(records, runs, left - reserve - looks)
        if left - reserve >= self.total_steps and not self._is_limited(records):
            action = self._repeat(records, runs, action) or action
        if not self._has_baseline or left < reserve:
            return action
        if baseline is None:
            is_due = action is None or self._is_time_to_compare(records, spent, _BASELINE_SHARE)
            begins = StartBaseline() if self._is_in_space else Train(self._baseline)
            return begins if is_due else action
        if action is None and baseline.is_trial and baseline.waits_to_begin:
            return Start()
        is_due = action is None or self._is_time_to_compare(records, spent, _BASELINE_END_SHARE)
        if baseline.is_paused and (is_due or self._would_overtake(action, baseline, records)):
            return Promote(baseline.number)
        return action

    def _would_overtake(self, action: Action | None, baseline: TrialRecord, records: Sequence[TrialRecord]) -> bool:
        """Return whether a trial would pass a rung of a race on which it is not compared with the baseline yet.

        At the last rung it is not: a first result a third of a training earlier is worth more than the comparison.
        """
        if not self._halving.races or not isinstance(action, Promote):
            return False
        return self.total_steps > self.next_rung(records[action.number]) > self.next_rung(baseline)

    def look_steps(
        self, record: TrialRecord, records: Sequence[TrialRecord], runs: Sequence[TrialRecord], steps_spent: int
    ) -> int:
        """Return how long a copy of a training is looked at on its next rung; 0 if it is not."""
        rung = self.next_rung(record)
        if record.role is not Role.TRIAL or rung == self.total_steps or self._in_ranks:
            return 0
        steps, baseline = self._halving.look_steps(rung), baseline_record(records, runs)
        if record.stopped_look is not None:
            # its steps were there when it began
            return steps
        others = [one for one in records if one.number != record.number]
        left = int(self.config.budget * self.total_steps) - steps_spent - self._promised(others, runs)
        # the steps of a look must not be missing at the end
        is_other = self._has_baseline and (baseline is None or baseline.name != record.name)
        rest = left - (self.total_steps - record.saved_steps) - (self._left_of(baseline) if is_other else 0)
        if self._has_baseline and not is_other:
            # nor for a training beside the baseline, if the rest pays for one
            needed = min([self.total_steps, *(self.total_steps - one.saved_steps for one in others if one.is_paused)])
            if rest - steps < needed <= rest:
                return 0
        return steps if rest >= steps else 0

    def _left_of(self, baseline: TrialRecord | None) -> int:
        """Return the optimizer steps of the baseline that are neither done nor promised."""
        if baseline is None:
            return self.total_steps
        if baseline.outcome is not None or baseline.auxiliary is not None:
            return 0
        done = self.next_rung(baseline) if baseline.is_running else baseline.saved_steps
        return self.total_steps - done

    def _looks_of(self, baseline: TrialRecord | None) -> int:
        """Return the optimizer steps of the looks that are left of the baseline; 0 if it has none."""
        if not (self._has_baseline and self._is_in_space) or self._in_ranks:
            return 0
        left = self._left_of(baseline)
        return sum(self._halving.look_steps(rung) for rung in self.rungs[:-1] if rung > self.total_steps - left)

    def _repeat(
        self, records: Sequence[TrialRecord], runs: Sequence[TrialRecord], action: Action | None
    ) -> Action | None:
        """Return the trial to repeat without a rule of the guard that has ended all first trials; None for none."""
        if any(one.waits_to_begin for one in records):
            return None
        rules = set(silenced(records, baseline_records(records, runs)))
        valued = [one for one in records if one.last is not None and one.last.reason.has_value]
        if not valued:
            number = first_to_repeat(records, rules, is_last_resort=action is None)
        else:
            number = other_to_repeat(records, rules, valued) if rules else None
        return None if number is None else Repeat(number)

    def _promised(self, records: Sequence[TrialRecord], runs: Sequence[TrialRecord]) -> int:
        """Return the remaining optimizer steps of the running trainings of all processes."""
        promised = sum(
            self.next_rung(one) - one.saved_steps + self._halving.look_steps(self.next_rung(one))
            for one in records
            if one.is_running
        )
        return promised + sum(self.total_steps - run.saved_steps for run in runs if run.outcome is None)

    def _is_time_to_compare(self, records: Sequence[TrialRecord], spent: Spent, share: float) -> bool:
        is_due = spent.steps >= share * self.config.budget * self.total_steps
        if self.config.timeout_seconds is not None:
            is_due = is_due or spent.seconds >= share * self.config.timeout_seconds
        return is_due and best_record(records, self.config.mode) is not None

    def _next_of_search(
        self, records: Sequence[TrialRecord], runs: Sequence[TrialRecord], steps_left: int
    ) -> Action | None:
        """Return the next trial or replicate."""
        # an interrupted trial comes before anything new, even replicates, which would use up its budget
        is_interrupted = any(record.is_interrupted for record in records)
        if is_interrupted and self._may_start(records) and steps_left >= self.total_steps - _begun_steps(records):
            return Start()
        under_way = {
            run.auxiliary.trial
            for run in runs
            if run.role is Role.REPLICATE and run.outcome is None and run.auxiliary is not None
        }
        to_replicate = [] if self._is_limited(records) else self._to_replicate(records)
        to_replicate = [number for number in to_replicate if number not in under_way]
        if self._early:
            # later top candidates are not waited for
            replicated = sum(bool(record.replicates) for record in records)
            to_replicate = to_replicate[: max(0, self._candidates - replicated - len(under_way))]
        progress = self._read_progress(records)
        rest = steps_left - self._held_back(records, len(to_replicate))
        action = None if to_replicate and rest <= self._early else self._next_by_halving(records, progress, rest)
        if action is None and to_replicate and steps_left >= self.total_steps:
            best = records[to_replicate[0]]
            return Train(TrainingJob(best.recipe, self.config.second_seed, Role.REPLICATE, best.number))
        return action or self._next_by_halving(records, progress, steps_left)

    def _next_by_halving(
        self, records: Sequence[TrialRecord], progress: Sequence[TrialProgress], steps_left: int
    ) -> Promote | Start | None:
        return next_action(
            self._halving,
            self.rungs,
            progress,
            steps_left,
            begun_steps=_begun_steps(records),
            may_start=self._may_start(records),
            # until one has finished, failed trials are replaced
            uses_up=not (self._is_limited(records) or self._leaves_rest)
            or all(record.value is None for record in records),
            at_once=_at_once(records),
            is_held=partial(self._is_held, progress),
        )

    def _is_held(self, progress: Sequence[TrialProgress], one: TrialProgress) -> bool:
        if not self._halving.line_search:
            return False
        space = self.config.space
        if self._halving.races and not any(each.has_finished(self.rungs) for each in progress):
            looked = len(progress) * (self.rungs[0] + self._halving.look_steps(self.rungs[0]))
            tried = {each.optimizer for each in progress}
            names = [branch.name for branch in space.optimizers]
            if looked < self._raced_share * self.total_steps or any(name not in tried for name in names):
                return True
            is_over = looked >= self._raced_most * self.total_steps
            return not is_over and any(is_being_searched(space, progress, name, 1) for name in names)
        return is_being_searched(space, progress, one.optimizer)

    def _may_start(self, records: Sequence[TrialRecord]) -> bool:
        has_recipes = isinf(self._recipes) or _count_tried(records) < self._recipes
        return has_recipes and not self._is_limited(records)

    def _is_limited(self, records: Sequence[TrialRecord]) -> bool:
        most = self.config.most_trials
        # the baseline does not count in the user's number of trials
        counted = [one for one in records if not (one.source or (self._has_baseline and one.is_baseline))]
        return most is not None and _count_tried(counted) >= most

    def _to_replicate(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the top candidates without a training on the second seed, if there is more than one."""
        best = self.top_candidates(records)
        return [number for number in best if len(best) > 1 and not records[number].replicates]

    def _held_back(self, records: Sequence[TrialRecord], to_replicate: int) -> int:
        """Return the steps that are reserved for replicates of present and future candidates."""
        to_come = max(0, self._candidates - sum(record.value is not None for record in records))
        return self.total_steps * (to_replicate + to_come)

    def top_candidates(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the trials any of which may turn out to be the best on a further seed, the best first."""
        best = top_candidates(records, self._candidates, self.config.mode)
        return [record.number for record in best]

    def to_discard(self, records: Sequence[TrialRecord]) -> list[int]:
        """Return the paused trials that will not be promoted."""
        found = to_discard(self._halving, self.rungs, self._read_progress(records), _at_once(records))
        return [number for number in found if not (self._has_baseline and records[number].is_baseline)]

    def why_ended(self, records: Sequence[TrialRecord]) -> str:
        """Return a sentence where nothing is left to try before a limit is reached; else empty."""
        begun = _count_tried(records)
        if begun < self._recipes or self._is_limited(records):
            return ""
        return f"all {begun} recipes of the space {self.config.space.name} have been tried"

    def _read_progress(self, records: Sequence[TrialRecord]) -> list[TrialProgress]:
        sign = 1.0 if self.config.mode == "min" else -1.0
        # a record stays the same object until something is written to its trial
        known = chain(self._known, repeat(None))
        self._known = [
            one if one is not None and one.record is record else _Known(record, _progress_of(record, sign))
            for record, one in zip(records, known, strict=False)
        ]
        return [one.progress for one in self._known if one.progress is not None]


@dataclass(frozen=True, slots=True)
class _Known:
    record: TrialRecord
    progress: TrialProgress | None


def baseline_parameters(space: Space) -> dict[str, Scalar] | None:
    """Return the Optuna parameters of the baseline; None if the space does not contain it.

    Example:
        >>> from opttune.space.parse import parse_space
        >>> baseline_parameters(parse_space("optimizer: {own: {lr_factor: {low: 0.1, high: 10, log: true}}}", "mine"))
        {'own.lr_factor': 1.0}
    """
    # a space with an earlier study's priors starts elsewhere, and may still contain it
    unmoved = _begun_unmoved(space)
    for index, branch in enumerate(unmoved.optimizers):
        if branch.is_own and default_recipe(unmoved, index).is_baseline:
            return default_parameters(unmoved, index)
    return None


def _begun_unmoved(space: Space) -> Space:
    """Return a space whose own optimizers start at the module's values, if it contains them."""
    training = tuple((name, _begun_at(field, _UNTOUCHED.get(name))) for name, field in space.training)
    schedules = tuple(sorted(space.schedules, key=lambda branch: not branch.is_own))
    begun = replace(space, schedules=schedules, training=training if space.is_own else space.training)
    return begun.map_optimizers(
        lambda branch: branch.map_fields(lambda _, field: _begun_at(field, 1)) if branch.is_own else branch
    )


def _begun_at(field: Field, value: Scalar) -> Field:
    if isinstance(field, Choice) and value in field.choices:
        return replace(field, start=field.choices.index(value))
    if isinstance(field, Range) and value is not None and field.low <= float(value) <= field.high:
        return replace(field, prior=float(value))
    return field


def _at_once(records: Sequence[TrialRecord]) -> int:
    """Return the number of concurrent trials across all processes, counting the one being scheduled."""
    return 1 + sum(record.is_running for record in records)


def _begun_steps(records: Sequence[TrialRecord]) -> int:
    """Return the saved steps of the next trial; 0 for a new one."""
    return next((record.saved_steps for record in records if record.waits_to_begin), 0)


def _count_tried(records: Sequence[TrialRecord]) -> int:
    return sum(record.last is not None or record.is_running for record in records)


def _progress_of(record: TrialRecord, sign: float) -> TrialProgress | None:
    """Return the progress of a trial; None before its first rung or end."""
    if record.last is None:
        return None
    values = [pause.value for pause in record.pauses]
    values += [] if record.value is None else [record.value]
    return TrialProgress(
        number=record.number,
        values=tuple(None if value is None else sign * value for value in values),
        steps=record.steps,
        stopped_at=record.stopped_at,
        is_paused=record.is_paused,
        optimizer=record.optimizer,
        rate=record.rate,
    )
