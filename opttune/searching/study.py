"""The only loop of a search: ask, run, tell."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from opttune.engines.engine import Done, Engine
from opttune.errors import DiskFullError, OpttuneError
from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome, StopReason
from opttune.searching.climb import Climb
from opttune.searching.failures import Failures
from opttune.searching.files import SearchFiles
from opttune.searching.interrupts import PATIENCE_SECONDS, HeldInterrupts
from opttune.searching.ladder import Promote
from opttune.searching.ledger import Ledger
from opttune.searching.plan import SearchPlan
from opttune.searching.record import TrialRecord
from opttune.searching.result import best_record
from opttune.searching.store import StudyStore
from opttune.searching.tracked import BaselineLog, RunLog
from opttune.searching.watcher import Watcher
from opttune.space.sample import sample_recipe
from opttune.tracking.study_run import StudyRun
from opttune.training.survey import Survey

_BASELINE_JOB = -1
_POLL_SECONDS = 0.2
_OTHERS_SECONDS = 1.0
"""How often to look whether another process's training has brought something to do."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A training that is under way: of a trial as it was when it began, or of the module as it came."""

    record: TrialRecord | None


class Search:
    """One search, from where its study stands to the first limit that is reached.

    Args:
        plan: What the search is told.
        store: The study.
        survey: What a look at the model showed.
        engine: Where trainings run.
        tracking: The parent run.
        watcher: Who watches.
        interrupts: Holds Ctrl-C back but while a training runs.

    Attributes:
        interrupted: Whether somebody stopped it.
        stopped_because: Why it ended before its limits, in a sentence; empty where it did not.
        files: What it keeps in its folder.
    """

    def __init__(
        self,
        plan: SearchPlan,
        store: StudyStore,
        survey: Survey,
        engine: Engine,
        tracking: StudyRun,
        watcher: Watcher,
        interrupts: HeldInterrupts,
    ) -> None:
        self.plan = plan
        self.store = store
        self.survey = survey
        self.interrupted = False
        self.stopped_because = ""
        self.files = SearchFiles(plan, store.leases.is_shared)
        self._engine = engine
        self._tracking = tracking
        self._watcher = watcher
        self._interrupts = interrupts
        self._started = time.monotonic()
        self._climb = Climb(plan, survey)
        self._ledger = Ledger(plan, store, self._climb, self.files, tracking, watcher)
        self._failures = Failures()
        self._jobs: dict[int, _Job] = {}
        self._stop_by: float | None = None
        self._is_done = False

    def run(self) -> None:
        """Train until a limit is reached, somebody interrupts, or nothing but failures comes."""
        self.store.leases.start()
        self._ledger.take_up(self.store.abandoned())
        records = self.store.records()
        self.files.drop_strangers(records)
        self._watcher.search_started(self.plan, self.survey, records, self.store.spent_on(records))
        try:
            while self._advance():
                pass
        except KeyboardInterrupt:
            # in the moments around a fit; within it the attempt turns it into an outcome
            self.interrupted = True
        self.interrupted = self.interrupted or self._interrupts.was_pressed
        # after failures the same command goes on, once they are mended
        self._is_done = not self.interrupted and not self._failures.verdict

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
        if self._is_over() or not self._others_train():
            return False
        time.sleep(_OTHERS_SECONDS)
        return True

    def _is_over(self) -> bool:
        self.interrupted = self.interrupted or self._interrupts.was_pressed
        self.stopped_because = self.stopped_because or self._failures.verdict
        timeout = self.plan.timeout_seconds
        is_late = timeout is not None and time.monotonic() - self._started >= timeout
        return self.interrupted or bool(self.stopped_because) or is_late

    def _others_train(self) -> bool:
        """Return whether other processes train for this study; what the dead ones have left is taken up."""
        self._ledger.take_up(self.store.abandoned())
        return any(record.is_running for record in self.store.records()) or self.store.baseline_is_trained

    def _begin_next(self) -> bool:
        """Begin the next training; return whether there was one."""
        if self.store.leases.is_shared:
            self._ledger.take_up(self.store.abandoned())
        records = self.store.records()
        wants_baseline = self._wants_baseline()
        left = int(self.plan.budget * self.survey.total_steps) - self.store.spent_on(records) - self._promised(records)
        # first a recipe that trains the model, then the module as it came, whose training is held in reserve
        reserve = self.survey.total_steps if wants_baseline else 0
        move = self._climb.next_move(records, left - reserve)
        if (
            wants_baseline
            and left >= reserve
            and (move is None or best_record(records, self.plan.mode) is not None)
            and self.store.claim_baseline()
        ):
            self._submit(None)
        elif isinstance(move, Promote):
            if self.store.claim(move.number):
                self._submit(records[move.number])
        elif move is not None:
            self._begin()
        else:
            if not any(record.is_running for record in records):
                self.stopped_because = self._climb.why_ended(records)
            return False
        return True

    def _wants_baseline(self) -> bool:
        is_wanted = self.plan.with_baseline and self.survey.has_own_optimizer and self.store.baseline is None
        return is_wanted and not self.store.baseline_is_trained

    def _promised(self, records: list[TrialRecord]) -> int:
        """Return the optimizer steps that the trainings under way, of all processes, will still do."""
        promised = sum(self._climb.next_rung(one) - one.saved_steps for one in records if one.is_running)
        return promised + (self.survey.total_steps if self.store.baseline_is_trained else 0)

    def _begin(self) -> None:
        trial = self.store.ask()
        try:
            recipe = sample_recipe(self.plan.space, trial)
        except OpttuneError:
            self.store.give_up(trial)
            raise
        self._submit(replace(self.store.record(trial.number), recipe=recipe))

    def _submit(self, record: TrialRecord | None) -> None:
        """Train a trial to its next rung, from where it waits, or the module as it came."""
        number = None if record is None else record.number
        self._watcher.training_started(number, None if record is None else record.recipe)
        log: RunLog = BaselineLog(self._tracking) if record is None else self._ledger.begin(record)
        job = _BASELINE_JOB if number is None else number
        self._jobs[job] = _Job(record)
        listener = _Both(record, log, self._watcher, self._interrupts)
        try:
            self._engine.submit(job, self._ledger.attempt(record), listener)
        except OpttuneError as err:
            self._take(Done(job, err))

    def _wait(self) -> bool:
        """Take what ends next; return whether to go on."""
        with self._interrupts.released() if self._engine.trains_here else nullcontext():
            done = self._engine.next_done(_POLL_SECONDS)
        if done is not None:
            self._take(done)
        if not self._interrupts.was_pressed:
            return True
        if self._stop_by is None:
            self._stop_by = time.monotonic() + PATIENCE_SECONDS
            self._engine.stop()
        return not self._interrupts.is_urgent and time.monotonic() < self._stop_by

    def _take(self, done: Done) -> None:
        record = self._jobs.pop(done.job).record
        result = done.result
        if isinstance(result, OpttuneError):
            self._take_error(record, result)
            raise result
        if result.reason is StopReason.FAILED and self._interrupts.was_pressed:
            # a library that Ctrl-C came to has made an error of its own of it
            message = f"interrupted at step {result.steps}"
            result = replace(result, reason=StopReason.INTERRUPTED, message=message, traceback="")
        self.interrupted = self.interrupted or result.reason is StopReason.INTERRUPTED
        if record is None:
            self._take_baseline(result)
            return
        # an error before the state is loaded has done no step
        result = replace(result, steps=max(result.steps, record.saved_steps))
        self._ledger.take(record, result)
        self._watcher.training_ended(record.number, result, self.store.steps_spent)
        self._failures.note(result)

    def _take_error(self, record: TrialRecord | None, error: OpttuneError) -> None:
        if record is None:
            self.store.release_baseline()
            return
        if isinstance(error, DiskFullError):
            # no recipe is to blame: the trial is taken up again
            return
        failed = Outcome(StopReason.FAILED, None, record.steps, self.survey.total_steps, 0.0, str(error))
        self._ledger.end(record, failed)

    def _take_baseline(self, outcome: Outcome) -> None:
        if outcome.reason is StopReason.INTERRUPTED:
            self.store.note_lost(None, outcome.steps)
            self.store.release_baseline()
            return
        self._tracking.flush(0.0)
        self.store.note_baseline(outcome)
        self._watcher.training_ended(None, outcome, self.store.steps_spent)


class _Both:
    """Hands what an attempt tells to the log and to the watcher: once, though a dead worker's steps are done again."""

    def __init__(self, record: TrialRecord | None, log: RunLog, watcher: Watcher, interrupts: HeldInterrupts) -> None:
        self._number = None if record is None else record.number
        self._last_step = 0 if record is None else record.saved_steps
        self._heard: set[tuple[int, str]] = set()
        self._log, self._watcher, self._interrupts = log, watcher, interrupts

    def steps(self, records: list[StepRecord]) -> None:
        new = [record for record in records if record.step > self._last_step]
        if new:
            self._last_step = new[-1].step
            with self._interrupts.held():
                self._log.steps(new)
                self._watcher.steps(self._number, new)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        new = {name: value for name, value in values.items() if (step, name) not in self._heard}
        if new:
            self._heard |= {(step, name) for name in new}
            with self._interrupts.held():
                self._log.metrics(step, new)
                self._watcher.metrics(self._number, step, new)
