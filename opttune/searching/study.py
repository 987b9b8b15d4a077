"""The only loop of a search: ask, run, tell."""

import time
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from opttune.errors import OpttuneError
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.searching.climb import Climb
from opttune.searching.failures import Failures
from opttune.searching.files import SearchFiles
from opttune.searching.interrupts import HeldInterrupts
from opttune.searching.ladder import Promote, Repeat
from opttune.searching.listeners import Listeners
from opttune.searching.plan import SearchPlan
from opttune.searching.record import TrialRecord
from opttune.searching.result import best_record
from opttune.searching.store import StudyStore
from opttune.searching.tracked import ParentLog, RunLog, TrialLog
from opttune.searching.watcher import Watcher
from opttune.space.sample import sample_recipe
from opttune.tracking.study_run import StudyRun
from opttune.training.attempt import Attempt, AttemptListener
from opttune.training.survey import Survey

RunAttempt = Callable[[Attempt, AttemptListener], Outcome]


class Search:
    """One search, from where its study stands to the first limit that is reached.

    Args:
        plan: What the search is told.
        store: The study.
        survey: What a look at the model showed.
        run_attempt: The engine: trains one recipe.
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
        run_attempt: RunAttempt,
        tracking: StudyRun,
        watcher: Watcher,
        interrupts: HeldInterrupts,
    ) -> None:
        self.plan = plan
        self.store = store
        self.survey = survey
        self.interrupted = False
        self.stopped_because = ""
        self.files = SearchFiles(plan)
        self._run_attempt = run_attempt
        self._tracking = tracking
        self._watcher = watcher
        self._interrupts = interrupts
        self._started = time.monotonic()
        self._spent = store.steps_spent
        self._climb = Climb(plan, survey)
        self._failures = Failures()
        self._logs: dict[int, TrialLog] = {}
        self._is_done = False

    def run(self) -> None:
        """Train until a limit is reached, somebody interrupts, or nothing but failures comes."""
        self._take_up_unfinished()
        self.store.hold_paused()
        records = self.store.records()
        self.files.drop_strangers(records)
        self._watcher.search_started(self.plan, self.survey, records, self._spent)
        try:
            while not self._is_over() and self._train_next():
                pass
        except KeyboardInterrupt:
            # in the moments around a fit; within it the attempt turns it into an outcome
            self.interrupted = True
        # after failures the same command goes on, once they are mended
        self._is_done = not self.interrupted and not self._failures.verdict

    def close(self) -> None:
        """Leave no trial and no run of one open, however the search ended."""
        for record in self.store.records():
            if not record.is_paused:
                continue
            if self._is_done:
                self._outrank(record)
            else:
                self._log_of(record).end(self._interrupted_at(record.steps))
        self._take_up_unfinished()
        if self._is_done:
            self.files.drop_all()

    def _take_up_unfinished(self) -> None:
        for trial in self.store.unfinished():
            record = TrialRecord.of(trial)
            if record.outcome is not None:
                self.store.tell(record.number, record.outcome)
                continue
            if record.recipe is not None and self.store.run_key(record.number) is not None and not record.is_paused:
                self._log_of(record).end(self._interrupted_at(0))
                self._logs.pop(record.number)  # taken up again, its run is opened again
            self.store.take_up(record.number)

    def _interrupted_at(self, steps: int) -> Outcome:
        return Outcome(StopReason.INTERRUPTED, None, steps, self.survey.total_steps, 0.0)

    def _is_over(self) -> bool:
        self.interrupted = self.interrupted or self._interrupts.was_pressed
        self.stopped_because = self.stopped_because or self._failures.verdict
        timeout = self.plan.timeout_seconds
        is_late = timeout is not None and time.monotonic() - self._started >= timeout
        return self.interrupted or bool(self.stopped_because) or is_late

    def _train_next(self) -> bool:
        """Make the next move; return whether there was one."""
        records = self.store.records()
        wants_baseline = self.plan.with_baseline and self.survey.has_own_optimizer and self.store.baseline is None
        left = int(self.plan.budget * self.survey.total_steps) - self._spent
        # first a recipe that trains the model, then the module as it came, whose training is held in reserve
        reserve = self.survey.total_steps if wants_baseline else 0
        move = self._climb.next_move(records, left - reserve)
        if wants_baseline and left >= reserve and (move is None or best_record(records, self.plan.mode) is not None):
            self._train_baseline()
        elif isinstance(move, Promote):
            self._log_of(records[move.number]).go_on()
            self._train(records[move.number])
        elif isinstance(move, Repeat):
            self._repeat(records[move.number])
        elif move is not None:
            self._begin()
        else:
            self.stopped_because = self._climb.why_ended(records)
            return False
        return True

    def _train_baseline(self) -> None:
        log = ParentLog(self._tracking, "baseline")
        self._watcher.training_started(None, None)
        outcome = self._run(self._attempt(None), log)
        self._spent += outcome.steps
        if outcome.reason is StopReason.INTERRUPTED:
            self.interrupted = True
            self.store.note_lost(outcome.steps)
            return
        self._keep_what_was_logged()
        self.store.note_baseline(outcome)
        self._watcher.training_ended(None, outcome, self._spent)

    def _repeat(self, record: TrialRecord) -> None:
        """Train a finalist's recipe on the second seed."""
        self._watcher.training_started(record.number, record.recipe)
        attempt = replace(self._attempt(None), recipe=record.recipe, seed=self.plan.second_seed)
        outcome = self._run(attempt, ParentLog(self._tracking, f"repeat/trial_{record.number}"))
        self._spent += outcome.steps
        if outcome.reason is StopReason.INTERRUPTED:
            self.interrupted = True
            self.store.note_lost(outcome.steps)
            return
        self._keep_what_was_logged()
        self._keep_files(replace(record, repeats=(*record.repeats, outcome)))
        self.store.note_repeat(record.number, outcome)
        self._watcher.repeat_ended(record.number, outcome, self._spent)
        self._failures.note(outcome)

    def _begin(self) -> None:
        trial = self.store.ask()
        try:
            recipe = sample_recipe(self.plan.space, trial)
        except OpttuneError:
            self.store.give_up(trial)
            raise
        if self.store.run_key(trial.number) is None:
            # before the run is made: a kill in between must not leave one that nobody knows of
            self.store.note_recipe(trial, recipe, uuid4().hex)
            self._logs[trial.number] = self._make_log(trial.number, recipe, is_resumed=False)
        self._train(TrialRecord(trial.number, "running", recipe, None, None))

    def _log_of(self, record: TrialRecord) -> TrialLog:
        if record.number not in self._logs and record.recipe is not None:
            self._logs[record.number] = self._make_log(record.number, record.recipe, is_resumed=True)
        return self._logs[record.number]

    def _make_log(self, number: int, recipe: Recipe, is_resumed: bool) -> TrialLog:
        key = self.store.run_key(number) or uuid4().hex
        return TrialLog(self._tracking, number, recipe, self.survey.total_steps, key, is_resumed=is_resumed)

    def _train(self, record: TrialRecord) -> None:
        """Train a trial to its next rung, from where it waits."""
        self._watcher.training_started(record.number, record.recipe)
        log = self._log_of(record)
        try:
            outcome = self._run(self._attempt(record), log)
            # an error before the state is loaded has done no step
            outcome = replace(outcome, steps=max(outcome.steps, record.steps))
        except OpttuneError as err:
            failed = Outcome(StopReason.FAILED, None, record.steps, self.survey.total_steps, 0.0, str(err))
            self._end(record, failed, log)
            raise
        self._spent += outcome.steps - record.steps
        if outcome.reason is StopReason.INTERRUPTED:
            self._note_interrupted(record, outcome, log)
        elif outcome.reason is StopReason.PAUSED:
            self._pause(record, outcome, log)
        else:
            # before the outcome is noted: a kill in between repeats a training and loses none
            self._keep_files(replace(record, outcome=outcome))
            self._end(record, outcome, log)
        self._watcher.training_ended(record.number, outcome, self._spent)
        self._failures.note(outcome)

    def _run(self, attempt: Attempt, log: RunLog) -> Outcome:
        with self._interrupts.released():
            outcome = self._run_attempt(attempt, Listeners(log, self._watcher, self._interrupts))
        if outcome.reason is StopReason.FAILED and self._interrupts.was_pressed:
            # a library that Ctrl-C came to has made an error of its own of it
            message = f"interrupted at step {outcome.steps}"
            return replace(outcome, reason=StopReason.INTERRUPTED, message=message, traceback="")
        return outcome

    def _note_interrupted(self, record: TrialRecord, outcome: Outcome, log: TrialLog) -> None:
        self.interrupted = True
        self.store.note_lost(outcome.steps - record.steps)
        if not record.is_paused:
            log.end(outcome)
            self.store.take_up(record.number)

    def _pause(self, record: TrialRecord, outcome: Outcome, log: TrialLog) -> None:
        log.pause(outcome)
        self._keep_what_was_logged()
        self.store.note_pause(record.number, outcome)
        self.files.note_size()
        self.files.drop_pauses(record.number, but_at=outcome.steps)
        records = self.store.records()
        for number in self._climb.surplus(records):
            self._outrank(records[number])

    def _outrank(self, record: TrialRecord) -> None:
        """Give up a paused trial that others have left behind."""
        last = record.pauses[-1]
        message = f"at step {last.steps} of {last.total_steps} others were better and went on"
        self._end(record, replace(last, reason=StopReason.OUTRANKED, message=message), self._log_of(record))
        self._watcher.trial_outranked(record.number)

    def _end(self, record: TrialRecord, outcome: Outcome, log: TrialLog) -> None:
        log.end(outcome, replace(record, outcome=outcome).seconds)
        self._logs.pop(record.number, None)
        self._keep_what_was_logged()
        self.store.note_outcome(record.number, outcome)
        self.files.drop_pauses(record.number)
        # Optuna's word comes last: a search that was killed before it finds the trial, and says it then
        self.store.tell(record.number, outcome)

    def _keep_what_was_logged(self) -> None:
        """Bring it to disk, without waiting for MLflow: what is trained no second time is not logged again."""
        self._tracking.flush(0.0)

    def _keep_files(self, record: TrialRecord) -> None:
        """Keep the recipe and the checkpoint of the best trial, as it is with what came of this one."""
        records = self.store.records()
        before = best_record(records, self.plan.mode)
        records[record.number] = record
        best = best_record(records, self.plan.mode)
        if best and (before is None or best.number != before.number):
            self.files.keep_best(best, before)
            now = time.time_ns() // 1_000_000
            self._tracking.metrics([("best/objective", best.value or 0.0, self._spent, now)])
        self.files.drop_ends(but=self._climb.finalists(records))

    def _attempt(self, record: TrialRecord | None) -> Attempt:
        attempt = Attempt(
            recipe=None,
            monitor=self.plan.monitor,
            seed=self.plan.seed,
            trainer={**self.plan.trainer, **self.plan.length},
            guard=self.plan.guard,
            mode=self.plan.mode,
        )
        if record is None:
            return attempt
        until = self._climb.next_rung(record)
        is_last = until == self.survey.total_steps
        return replace(
            attempt,
            recipe=record.recipe,
            checkpoint=self.files.end_of(record.number) if is_last else self.files.pause_of(record.number, until),
            until_step=None if is_last else until,
            resume_from=self.files.pause_of(record.number, record.steps) if record.is_paused else None,
        )
