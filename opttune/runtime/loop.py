"""The only loop of a search: ask, run, tell."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace

from opttune.algorithms.successive_halving import Promote, Replicate
from opttune.engines.engine import Done, Engine
from opttune.errors import DiskFullError, OpttuneError
from opttune.outcome import Outcome, StopReason
from opttune.runtime.checkpoints import CheckpointStore
from opttune.runtime.listeners import Listeners
from opttune.runtime.policy import SearchPolicy
from opttune.runtime.progress import ProgressReporter
from opttune.runtime.recorder import TrialRecorder
from opttune.runtime.signals import GRACE_SECONDS, DeferredInterrupts
from opttune.runtime.stopper import FailureStopper
from opttune.space.sample import sample_recipe
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.selection import best_record
from opttune.tracking.study_run import StudyRun
from opttune.tracking.training_log import ParentLog
from opttune.training.attempt import Attempt
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord

_BASELINE, _REPEAT = "baseline", "repeat/trial_"
"""Names of trainings that are no trial's; their metrics stand under these in the search's own run."""
_BASELINE_SHARE = 0.25
"""So much of the budget, or of the time, is spent before the module as it came is trained: good recipes first."""
_POLL_SECONDS = 0.2
_OTHERS_SECONDS = 1.0
"""How often to look whether another process's training has brought something to do."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A training that is under way.

    Attributes:
        record: The trial as it was when the training began; None for the module as it came.
        aside: Name of a training that is no trial's; empty for a trial's own.
    """

    record: TrialRecord | None
    aside: str = ""


class Search:
    """One search, from where its study stands to the first limit that is reached.

    Args:
        config: What the search is told.
        store: The study.
        survey: What a look at the model showed.
        engine: Where trainings run.
        tracking: The parent run.
        reporter: Who watches.
        interrupts: Holds Ctrl-C back but while a training runs.

    Attributes:
        interrupted: Whether somebody stopped it.
        stopped_because: Why it ended before its limits, in a sentence; empty where it did not.
        files: What it keeps in its folder.
    """

    def __init__(
        self,
        config: SearchConfig,
        store: StudyStore,
        survey: ModelInspection,
        engine: Engine,
        tracking: StudyRun,
        reporter: ProgressReporter,
        interrupts: DeferredInterrupts,
    ) -> None:
        self.config = config
        self.store = store
        self.survey = survey
        self.interrupted = False
        self.stopped_because = ""
        self.files = CheckpointStore(config, store.leases.is_shared)
        self._engine = engine
        self._tracking = tracking
        self._reporter = reporter
        self._interrupts = interrupts
        self._started = time.monotonic()
        self._climb = SearchPolicy(config, survey)
        self._ledger = TrialRecorder(config, store, self._climb, self.files, tracking, reporter)
        self._failures = FailureStopper()
        self._jobs: dict[int, _Job] = {}
        self._last_job = 0
        self._stop_by: float | None = None
        self._is_done = False

    def run(self) -> None:
        """Train until a limit is reached, somebody interrupts, or nothing but failures comes."""
        self.store.leases.start()
        self._ledger.take_up(self.store.reclaim_stale())
        records = self.store.records()
        self.files.remove_orphans(records)
        self._reporter.search_started(self.config, self.survey, records, self.store.steps_seen)
        try:
            while self._advance():
                pass
        except KeyboardInterrupt:
            # in the moments around a fit; within it the attempt turns it into an outcome
            self.interrupted = True
        self.interrupted = self.interrupted or self._interrupts.stop_requested
        # after failures the same command goes on, once they are mended
        self._is_done = not (self.interrupted or self._failures.verdict or self._goes_on_elsewhere())

    def close(self) -> None:
        """Leave no trial and no run of one open, however the search ended."""
        self._engine.close()
        self._ledger.close(self._is_done)
        if self._is_done:
            self.files.drop_all()
        self.store.leases.end()

    def _advance(self) -> bool:
        """Begin what there is to begin, and take what has ended; return whether to go on."""
        while not self._is_over() and len(self._jobs) < self._engine.slots and self._begin_next():
            pass
        if self._jobs:
            return self._wait()
        if self._is_over():
            return False
        if not self._others_train():
            # what has ended since may have brought something to do
            return self.store.leases.is_shared and self._begin_next()
        time.sleep(_OTHERS_SECONDS)
        return True

    def _is_over(self) -> bool:
        self.interrupted = self.interrupted or self._interrupts.stop_requested
        self.stopped_because = self.stopped_because or self._failures.verdict
        timeout = self.config.timeout_seconds
        is_late = timeout is not None and time.monotonic() - self._started >= timeout
        return self.interrupted or bool(self.stopped_because) or is_late

    def _others_train(self) -> bool:
        """Return whether other processes train for this study; what the dead ones have left is taken up."""
        self._ledger.take_up(self.store.reclaim_stale())
        return any(record.is_running for record in self.store.records()) or bool(self.store.leases.asides())

    def _goes_on_elsewhere(self) -> bool:
        """Return whether other processes search on, that need what waits; one may be between two trainings."""
        if not self.store.leases.is_shared:
            return False
        if self._others_train():
            return True
        time.sleep(_OTHERS_SECONDS)
        return self._others_train()

    def _begin_next(self) -> bool:
        """Begin the next training; return whether there was one."""
        with self.store.together():
            return self._make_move()

    def _make_move(self) -> bool:
        if self.store.leases.is_shared:
            self._ledger.take_up(self.store.reclaim_stale())
        records, asides = self.store.records(), self.store.leases.asides()
        left = int(self.config.budget * self.survey.total_steps) - self.store.steps_seen
        left -= self._promised(records, asides)
        wants_baseline = self._wants_baseline() and _BASELINE not in asides
        # the training of the module as it came is held in reserve, until it begins
        reserve = self.survey.total_steps if wants_baseline else 0
        move = self._climb.next_move(records, left - reserve, _numbers_repeated(asides))
        if wants_baseline and left >= reserve and (move is None or self._is_time_to_compare(records)):
            self._begin_aside(_BASELINE, None)
        elif isinstance(move, Promote):
            if self.store.claim(move.number):
                self._begin(records[move.number])
        elif isinstance(move, Replicate):
            self._begin_aside(f"{_REPEAT}{move.number}", records[move.number])
        elif move is not None:
            self._begin(self._ask())
        else:
            if not asides and not any(record.is_running for record in records):
                self.stopped_because = self._climb.why_ended(records)
            return False
        return True

    def _wants_baseline(self) -> bool:
        return self.config.with_baseline and self.survey.has_own_optimizer and self.store.baseline is None

    def _is_time_to_compare(self, records: list[TrialRecord]) -> bool:
        is_due = self.store.steps_seen >= _BASELINE_SHARE * self.config.budget * self.survey.total_steps
        if self.config.timeout_seconds is not None:
            is_due = is_due or time.monotonic() - self._started >= _BASELINE_SHARE * self.config.timeout_seconds
        return is_due and best_record(records, self.config.mode) is not None

    def _promised(self, records: list[TrialRecord], asides: set[str]) -> int:
        """Return the optimizer steps that the trainings under way, of all processes, will still do."""
        promised = sum(self._climb.next_rung(one) - one.saved_steps for one in records if one.is_running)
        return promised + self.survey.total_steps * len(asides)

    def _ask(self) -> TrialRecord:
        trial = self.store.ask()
        try:
            recipe = sample_recipe(self.config.space, trial)
        except OpttuneError:
            self.store.give_up(trial)
            raise
        return replace(self.store.record(trial.number), recipe=recipe)

    def _begin(self, record: TrialRecord) -> None:
        """Train a trial to its next rung, from where it waits."""
        log = self._ledger.begin(record)
        listeners = Listeners(log, self._reporter, self._interrupts, record.number, record.saved_steps)
        self._submit(_Job(record), self._ledger.attempt(record), listeners)

    def _begin_aside(self, name: str, record: TrialRecord | None) -> None:
        """Train a finalist's recipe on the second seed, or the module as it came."""
        if self.store.leases.claim_aside(name):
            number = None if record is None else record.number
            listeners = Listeners(ParentLog(self._tracking, name), self._reporter, self._interrupts, number)
            self._submit(_Job(record, name), self._ledger.aside_attempt(record), listeners)

    def _submit(self, job: _Job, attempt: Attempt, listeners: Listeners) -> None:
        record = job.record
        self._reporter.training_started(record.number if record else None, attempt.recipe)
        self._last_job += 1
        self._jobs[self._last_job] = job
        try:
            self._engine.submit(self._last_job, attempt, listeners)
        except OpttuneError as err:
            self._take(Done(self._last_job, err))

    def _wait(self) -> bool:
        """Take what ends next; return whether to go on."""
        with self._interrupts.released() if self._engine.trains_here else nullcontext():
            done = self._engine.next_done(_POLL_SECONDS)
        if done is not None:
            with self.store.together():
                self._take(done)
        if not self._interrupts.stop_requested:
            return True
        if self._stop_by is None:
            self._stop_by = time.monotonic() + GRACE_SECONDS
            self._engine.stop()
        return not self._interrupts.is_forced and time.monotonic() < self._stop_by

    def _take(self, done: Done) -> None:
        job, result = self._jobs.pop(done.job), done.result
        if isinstance(result, OpttuneError):
            self._take_error(job, result)
            raise result
        if result.reason is StopReason.FAILED and self._interrupts.stop_requested:
            # a library that Ctrl-C came to has made an error of its own of it
            message = f"interrupted at step {result.steps}"
            result = replace(result, reason=StopReason.INTERRUPTED, message=message, traceback="")
        self.interrupted = self.interrupted or result.reason is StopReason.INTERRUPTED
        if job.aside or job.record is None:
            self._take_aside(job, result)
        else:
            # an error before the state is loaded has done no step
            result = replace(result, steps=max(result.steps, job.record.saved_steps))
            self._ledger.take(job.record, result)
            self._reporter.training_ended(job.record.number, result, self.store.steps_spent)
        if job.record is not None:
            self._failures.note(result)

    def _take_error(self, job: _Job, error: OpttuneError) -> None:
        if job.aside:
            self.store.leases.release_aside(job.aside)
        elif job.record is not None and not isinstance(error, DiskFullError):
            failed = Outcome(StopReason.FAILED, None, job.record.steps, self.survey.total_steps, 0.0, str(error))
            self._ledger.end(job.record, failed)
        # where the disk is full no recipe is to blame: the trial is taken up again

    def _take_aside(self, job: _Job, outcome: Outcome) -> None:
        record = job.record
        if outcome.reason is StopReason.INTERRUPTED:
            self.store.save_lost_steps(None, outcome.steps)
        elif record is None:
            self._ledger.keep_what_was_logged()
            self.store.note_baseline(outcome)
            self._reporter.training_ended(None, outcome, self.store.steps_spent)
        else:
            self._ledger.take_repeat(record, outcome)
            self._reporter.repeat_ended(record.number, outcome, self.store.steps_spent)
        self.store.leases.release_aside(job.aside)


def _numbers_repeated(asides: set[str]) -> set[int]:
    return {int(name.removeprefix(_REPEAT)) for name in asides if name.startswith(_REPEAT)}
