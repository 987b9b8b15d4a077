"""What came of each training, written down: into MLflow, the folder and the study, in an order that outlives a kill.

Optuna's word comes last. Up to there a search that was killed repeats a training; from there on it never does.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from opttune.guard.rules import Guard
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.runtime.checkpoints import CheckpointStore
from opttune.runtime.guard_audit import guard_of, look_at, note_finding, read_findings
from opttune.runtime.policy import SearchPolicy
from opttune.runtime.progress import ProgressReporter
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.selection import best_record
from opttune.tracking.study_run import StudyRun
from opttune.tracking.training_log import TrialLog
from opttune.training.attempt import Attempt
from opttune.trial_record import TrialRecord


class TrialRecorder:
    """The books of one search.

    Args:
        config: What the search is told.
        store: The study.
        climb: The way up the ladder.
        files: What the search keeps in its folder.
        tracking: The parent run.
        reporter: Who watches.
    """

    def __init__(
        self,
        config: SearchConfig,
        store: StudyStore,
        climb: SearchPolicy,
        files: CheckpointStore,
        tracking: StudyRun,
        reporter: ProgressReporter,
    ) -> None:
        self._config, self._store, self._climb, self._files = config, store, climb, files
        self._tracking, self._reporter = tracking, reporter
        self._logs: dict[int, TrialLog] = {}

    def begin(self, record: TrialRecord) -> TrialLog:
        """Return the log of a trial that is about to train; a trial's run is made, or gone on with."""
        if self._store.run_key(record.number) is None and record.recipe is not None:
            # before the run is made: a kill in between must not leave one that nobody knows of
            self._store.save_recipe_of(record.number, record.recipe, uuid4().hex)
            self._logs[record.number] = self._make_log(record.number, record.recipe, is_resumed=False)
        log = self.log_of(record)
        log.begin(goes_on=record.is_paused)
        return log

    def log_of(self, record: TrialRecord) -> TrialLog:
        """Return the log of a trial; one whose run this process has not open is gone on with."""
        if record.number not in self._logs and record.recipe is not None:
            self._logs[record.number] = self._make_log(record.number, record.recipe, is_resumed=True)
        return self._logs[record.number]

    def _make_log(self, number: int, recipe: Recipe, is_resumed: bool) -> TrialLog:
        key = self._store.run_key(number) or uuid4().hex
        return TrialLog(self._tracking, number, recipe, self._climb.rungs[-1], key, is_resumed=is_resumed)

    def take(self, record: TrialRecord, outcome: Outcome) -> None:
        """Write down what came of a training.

        Args:
            record: The trial as it was when the training began.
            outcome: What came of it.
        """
        if not self._store.is_own(record.number):
            # this process stood still for so long that another has taken the trial over
            if (log := self._logs.pop(record.number, None)) is not None:
                log.leave()
            return
        if outcome.flagged:
            note_finding(self._store.study, look_at(record, outcome, self._store.records(), self._config.mode))
        if outcome.reason is StopReason.INTERRUPTED:
            self._interrupt(record, outcome)
        elif outcome.reason is StopReason.PAUSED:
            self._pause(record, outcome)
        else:
            with self._files.held():
                # before the outcome is noted: a kill in between repeats a training and loses none
                self._keep_files(replace(record, outcome=outcome))
                self.end(record, outcome)

    def take_repeat(self, record: TrialRecord, outcome: Outcome) -> None:
        """Write down what a finalist's recipe gave on the second seed."""
        with self._files.held():
            self.keep_what_was_logged()
            self._keep_files(replace(record, repeats=(*record.repeats, outcome)))
            self._store.note_repeat(record.number, outcome)

    def _interrupt(self, record: TrialRecord, outcome: Outcome) -> None:
        if self._files.stop_of(record.number).exists():
            self._store.save_stop(record.number, outcome.steps)
        else:
            self._store.save_lost_steps(record.number, outcome.steps - record.saved_steps)
        if not record.pauses:
            self.log_of(record).end(outcome)
            self._logs.pop(record.number)
        self._store.release(record.number)

    def _pause(self, record: TrialRecord, outcome: Outcome) -> None:
        self.log_of(record).pause(outcome)
        self.keep_what_was_logged()
        self._store.save_pause(record.number, outcome)
        self._store.release(record.number)
        self._files.note_size()
        self._files.drop_pauses(record.number, but_at=outcome.steps)
        records = self._store.records()
        for number in self._climb.surplus(records):
            self.outrank(records[number])

    def outrank(self, record: TrialRecord) -> None:
        """Give up a paused trial that others have left behind."""
        if not self._store.claim(record.number):
            return
        last = record.pauses[-1]
        message = f"at step {last.steps} of {last.total_steps} others were better and went on"
        self.end(record, replace(last, reason=StopReason.OUTRANKED, message=message))
        self._reporter.trial_outranked(record.number)

    def end(self, record: TrialRecord, outcome: Outcome) -> None:
        """Write down the last word on a trial."""
        self.log_of(record).end(outcome, replace(record, outcome=outcome).seconds)
        self._logs.pop(record.number, None)
        self.keep_what_was_logged()
        self._store.save_outcome(record.number, outcome)
        self._files.drop_pauses(record.number)
        # Optuna's word comes last: a search that was killed before it finds the trial, and says it then
        self._store.tell(record.number, outcome)

    def take_up(self, records: Iterable[TrialRecord]) -> None:
        """Make trials wait whose training nobody goes on with; tell Optuna of those that have ended all the same."""
        for record in records:
            if record.outcome is not None:
                self._store.tell(record.number, record.outcome)
                continue
            if record.recipe is not None and not record.pauses and self._store.run_key(record.number) is not None:
                self.log_of(record).end(self._interrupted_at(record.saved_steps))
                self._logs.pop(record.number)  # taken up again, its run is opened again
            self._store.release(record.number)

    def close(self, is_done: bool) -> None:
        """Leave no trial and no run of this process open.

        Args:
            is_done: Whether the search is over, so that nobody will promote who is paused.
        """
        self.take_up(self._store.own())
        for record in self._store.records():
            if record.is_paused and is_done:
                self.outrank(record)
            elif record.is_paused:
                self.log_of(record).end(self._interrupted_at(record.saved_steps))

    def _interrupted_at(self, steps: int) -> Outcome:
        return Outcome(StopReason.INTERRUPTED, None, steps, self._climb.rungs[-1], 0.0)

    def keep_what_was_logged(self) -> None:
        """Bring it to disk, without waiting for MLflow: what is trained no second time is not logged again."""
        self._tracking.flush(0.0)

    def _keep_files(self, record: TrialRecord) -> None:
        """Keep the recipe and the checkpoint of the best trial, as it is with what came of this one."""
        records = self._store.records()
        before = best_record(records, self._config.mode)
        spent = self._store.steps_seen - records[record.number].steps_done + record.steps_done
        records[record.number] = record
        best = best_record(records, self._config.mode)
        if best and (before is None or best.number != before.number):
            self._files.keep_best(best, before)
            now = time.time_ns() // 1_000_000
            self._tracking.metrics([("best/objective", best.value or 0.0, spent, now)])
        # who trains just now may have written its end already
        running = [one.number for one in records if one.is_running]
        self._files.drop_ends(but=[*self._climb.finalists(records), *running])

    def attempt(self, record: TrialRecord) -> Attempt:
        """Return the next training of a trial, up to its next rung."""
        until = self._climb.next_rung(record)
        is_last = until == self._climb.rungs[-1]
        return replace(
            self.aside_attempt(None),
            recipe=record.recipe,
            guard=self._guard_of(record),
            checkpoint=self._files.end_of(record.number) if is_last else self._files.pause_of(record.number, until),
            until_step=None if is_last else until,
            resume_from=self._state_of(record),
            stop_checkpoint=self._files.stop_of(record.number),
        )

    def aside_attempt(self, record: TrialRecord | None) -> Attempt:
        """Return a training that is no trial's: a recipe once more on the second seed, or the module as it came."""
        return Attempt(
            recipe=None if record is None else record.recipe,
            monitor=self._config.monitor,
            seed=self._config.seed if record is None else self._config.second_seed,
            trainer={**self._config.trainer, **self._config.length},
            guard=self._guard_of(record),
            mode=self._config.mode,
        )

    def _guard_of(self, record: TrialRecord | None) -> Guard | None:
        return guard_of(self._config.guard, record, self._config.seed, read_findings(self._store.study))

    def _state_of(self, record: TrialRecord) -> Path | None:
        """Return the furthest saved state of a trial that is there; None trains it from the beginning."""
        stopped, paused = self._files.stop_of(record.number), self._files.pause_of(record.number, record.steps)
        if record.saved_steps > record.steps and stopped.exists():
            return stopped
        return paused if record.pauses and paused.exists() else None
