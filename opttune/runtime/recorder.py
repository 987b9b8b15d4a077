"""The outcome of each training, saved in MLflow, the folder and the study, in an order that survives a kill.

Optuna is told last. A search that is killed before this repeats a part of the training; a later kill repeats nothing.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from opttune.guard.rules import Guard
from opttune.job import Role
from opttune.outcome import Outcome, StopReason
from opttune.runtime.checkpoints import CheckpointStore
from opttune.runtime.policy import Policy
from opttune.runtime.progress import ProgressReporter
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.guard_rules import repeats, silenced, without
from opttune.study.selection import baseline_record, baseline_records, best_of
from opttune.tracking.study_run import StudyRun
from opttune.tracking.training_log import BEST_OVER_SECONDS, TrainingLog
from opttune.training.attempt import Attempt
from opttune.trial_record import TrialRecord


class TrialRecorder:
    """Records all trainings of a search in the same way: trials, the baseline, replicates, confirmations.

    Args:
        config: The configuration of the search.
        store: The study.
        policy: Sets the end of each training and the paused trials to discard.
        checkpoints: The files in the search's folder.
        tracking: The search's run.
        reporter: Receives the discarded trials.
    """

    def __init__(
        self,
        config: SearchConfig,
        store: StudyStore,
        policy: Policy,
        checkpoints: CheckpointStore,
        tracking: StudyRun,
        reporter: ProgressReporter,
    ) -> None:
        self._config, self._store, self._policy, self._checkpoints = config, store, policy, checkpoints
        self._tracking, self._reporter = tracking, reporter
        self._logs: dict[str, TrainingLog] = {}

    def begin(self, record: TrialRecord) -> TrainingLog:
        """Return the log of a training that is about to start or resume."""
        store = self._store.store_of(record)
        if store.run_key(record.number) is None:
            # before the run is made: a kill in between must not leave an unknown run
            store.save_start(record.number, record.recipe, uuid4().hex)
            self._logs[record.name] = self._make_log(record, is_resumed=False)
        log = self.log_of(record)
        log.begin(is_resumed=bool(record.pauses))
        return log

    def log_of(self, record: TrialRecord) -> TrainingLog:
        """Return the log of a training; it continues the run if this process has not opened it."""
        if record.name not in self._logs:
            self._logs[record.name] = self._make_log(record, is_resumed=True)
        return self._logs[record.name]

    def _make_log(self, record: TrialRecord, is_resumed: bool) -> TrainingLog:
        key = self._store.store_of(record).run_key(record.number) or uuid4().hex
        job = record.job(self._config.seed)
        return TrainingLog(self._tracking, job, self._policy.total_steps, key, is_resumed=is_resumed)

    def attempt(self, record: TrialRecord) -> Attempt:
        """Return the next part of a training, up to its next rung."""
        job, until = record.job(self._config.seed), self._policy.next_rung(record)
        costs, read = self._config.step_costs, (self._store.records(), self._store.runs(), self._store.steps_seen)
        looked, at_rung = self._policy.look_steps(record, *read), self._checkpoints.rung_path(record, until)
        at = costs.steps_at(job.recipe, self._policy.rungs, until)
        is_last = at >= costs.steps(job.recipe, self._policy.total_steps)
        final = self._checkpoints.final_path(record) if job.is_trial or record.is_baseline else None
        return Attempt(
            recipe=job.recipe,
            monitor=self._config.monitor,
            seed=job.seed,
            trainer={**self._config.trainer, **self._config.length_of(job.recipe, self._policy.total_steps)},
            guard=self._guard_of(record),
            mode=self._config.mode,
            checkpoint=final if is_last else at_rung,
            until_step=None if is_last else at,
            resume_from=self._state_of(record),
            stop_checkpoint=self._checkpoints.interrupt_path(record) if self._config.pauses else None,
            look_steps=costs.steps(job.recipe, looked) if looked else 0,
            only_look=record.stopped_look is not None and at_rung.exists(),
        )

    def _guard_of(self, record: TrialRecord) -> Guard | None:
        records, runs = self._store.records(), self._store.runs()
        off = set(silenced(records, baseline_records(records, runs)))
        ended = repeats(records, record)
        if ended is not None and ended.outcome is not None:
            off.add(ended.outcome.reason)
        # a baseline that learns nothing is still compared; and until a training has finished, there is no sign that the
        # loss of this module falls so early
        is_known = any(one.value is not None and not one.source for one in (*records, *runs))
        if record.is_baseline or record.role is Role.CONFIRMATION or not is_known:
            off.add(StopReason.STALL)
        return without(self._config.guard, off)

    def _state_of(self, record: TrialRecord) -> Path | None:
        """Return the latest existing checkpoint of a training; None trains it from the start."""
        stopped, paused = self._checkpoints.interrupt_path(record), self._checkpoints.rung_path(record, record.steps)
        if record.saved_steps > record.steps and stopped.exists():
            return stopped
        return paused if record.pauses and paused.exists() else None

    def counted(self, record: TrialRecord, outcome: Outcome) -> Outcome:
        """Return an outcome with its steps in the units of the search: optimizer steps, or time.

        That of a repeated look is joined with the part before the look.
        """
        until, full = self._policy.next_rung(record), self._policy.total_steps
        counted = self._config.step_costs.counted(record.job(self._config.seed).recipe, outcome, until, full)
        before = record.stopped_look
        if before is None or counted.reason is not StopReason.PAUSED:
            return counted
        return replace(
            before,
            value=before.value if counted.value is None else counted.value,
            seconds=before.seconds + counted.seconds,
            look_steps=counted.look_steps,
            is_look_stopped=counted.is_look_stopped,
        )

    def take(self, record: TrialRecord, outcome: Outcome) -> None:
        """Record the outcome of a training.

        Args:
            record: The training's record at its start or its last resumption.
            outcome: Its outcome.
        """
        if not self._store.store_of(record).is_own(record.number):
            # this process was suspended so long that another one has taken over the training
            if (log := self._logs.pop(record.name, None)) is not None:
                log.leave()
            return
        if outcome.reason is StopReason.INTERRUPTED or outcome.is_look_stopped:
            self._interrupt(record, outcome)
        elif outcome.reason is StopReason.PAUSED:
            self._pause(record, outcome)
        else:
            with self._checkpoints.held():
                # before the outcome is saved: a kill in between repeats a training instead of losing it
                self._keep_best(replace(record, outcome=outcome))
                self.end(record, outcome)

    def _interrupt(self, record: TrialRecord, outcome: Outcome) -> None:
        store = self._store.store_of(record)
        if outcome.is_look_stopped:
            store.save_stopped_look(record.number, outcome)
        elif self._checkpoints.interrupt_path(record).exists():
            store.save_stop(record.number, outcome.steps)
        else:
            store.save_lost_steps(record.number, max(0, outcome.steps - record.saved_steps))
        if not record.pauses:
            self.log_of(record).end(self._interruption(record) if outcome.is_look_stopped else outcome)
            self._logs.pop(record.name)
        store.requeue(record.number)

    def _pause(self, record: TrialRecord, outcome: Outcome) -> None:
        self.log_of(record).pause(outcome)
        self.flush_logs()
        store = self._store.store_of(record)
        store.save_pause(record.number, outcome)
        store.requeue(record.number)
        self._checkpoints.note_size()
        self._checkpoints.drop_pauses(record, but_at=outcome.steps)
        records = self._store.records()
        for number in self._policy.to_discard(records):
            self.discard(records[number])

    def discard(self, record: TrialRecord) -> None:
        """Discard a paused trial that will not be promoted."""
        if not self._store.trials.claim(record.number):
            return
        last = record.pauses[-1]
        message = f"at step {last.steps} of {last.total_steps} others were better and were promoted"
        self.end(record, replace(last, reason=StopReason.OUTRANKED, message=message))
        self._reporter.trial_discarded(record.number)

    def end(self, record: TrialRecord, outcome: Outcome) -> None:
        """Record the end of a training."""
        self.log_of(record).end(outcome, replace(record, outcome=outcome).seconds)
        self._logs.pop(record.name, None)
        self.flush_logs()
        self._store.save_outcome(record, outcome)
        self._checkpoints.drop_pauses(record)
        # Optuna is told last: after an earlier kill, the next search finds the outcome and reports it
        self._store.store_of(record).tell(record.number, outcome)

    def requeue(self, records: Iterable[TrialRecord]) -> None:
        """Requeue trainings that no process runs; report those that had already ended."""
        for record in records:
            store = self._store.store_of(record)
            if record.outcome is not None:
                store.tell(record.number, record.outcome)
                continue
            # the run of a training that this loop paused stays open, because it may resume at once
            stays_open = bool(record.pauses) and record.role in self._policy.roles
            if not stays_open and store.run_key(record.number) is not None:
                self.log_of(record).end(self._interruption(record))
                self._logs.pop(record.name, None)  # when it is resumed, its run is opened again
            store.requeue(record.number)

    def close(self, is_done: bool) -> None:
        """Close all trainings and runs of this process.

        Args:
            is_done: Whether the search is over, so no paused trial will be promoted.
        """
        self.requeue(self._store.own())
        for record in (*self._store.records(), *self._store.runs()):
            if not record.is_paused or record.role not in self._policy.roles:
                continue
            if is_done and record.role is Role.TRIAL:
                self.discard(record)
            else:
                self.log_of(record).end(self._interruption(record))

    def _interruption(self, record: TrialRecord) -> Outcome:
        share = self._config.step_costs.share(record.job(self._config.seed).recipe)
        return Outcome(StopReason.INTERRUPTED, None, record.saved_steps, self._policy.total_steps, 0.0, share=share)

    def flush_logs(self) -> None:
        """Flush the logs to disk, without waiting for MLflow, before work is marked as done and never repeated."""
        self._tracking.flush(0.0)

    def _keep_best(self, ended: TrialRecord) -> None:
        """Keep the recipe and the checkpoint of the best trial after this training."""
        records = self._store.records()
        runs = self._store.runs()
        before = best_of(records, baseline_record(records, runs), self._config.mode)
        if ended.role is Role.TRIAL:
            records[ended.number] = ended
        elif ended.role is Role.BASELINE:
            runs = [ended if run.name == ended.name else run for run in runs]
        elif ended.role is Role.REPLICATE and ended.auxiliary is not None and ended.outcome is not None:
            number = ended.auxiliary.trial or 0
            records[number] = replace(records[number], replicates=(*records[number].replicates, ended.outcome))
        else:
            return
        best = best_of(records, baseline_record(records, runs), self._config.mode)
        if best and (before is None or best.name != before.name):
            self._checkpoints.keep_best(best, before)
            known = self._store.store_of(ended).record(ended.number)
            spent = self._store.steps_seen - known.steps_done + ended.steps_done
            now = time.time_ns() // 1_000_000
            seconds = round(self._store.seconds_seen + ended.seconds - known.seconds)
            at = {"best/objective": spent, BEST_OVER_SECONDS: seconds}
            self._tracking.metrics([(name, best.value or 0.0, step, now) for name, step in at.items()])
        # a running trial may already have written its final checkpoint
        kept = [one for one in records if one.is_running or one.number in self._policy.top_candidates(records)]
        kept += [one for one in (*runs, *records) if one.is_baseline]
        self._checkpoints.drop_finals(but=kept)
