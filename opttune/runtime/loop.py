"""The training loop: it trains and records one action after another, until nothing is left or a limit is reached."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from opttune.algorithms.successive_halving import Promote
from opttune.engines.engine import Done, Engine
from opttune.errors import DiskFullError, OpttuneError, StudyError
from opttune.job import Role
from opttune.outcome import Outcome, StopReason
from opttune.runtime.checkpoints import CheckpointStore
from opttune.runtime.policy import Action, Policy, Repeat, Spent, StartBaseline, Train, baseline_parameters
from opttune.runtime.progress import ProgressReporter, TrainingListener
from opttune.runtime.recorder import TrialRecorder
from opttune.runtime.signals import GRACE_SECONDS, DeferredInterrupts
from opttune.runtime.stopper import FailureStopper
from opttune.space.sample import sample_recipe
from opttune.storages.study_store import StudyStore
from opttune.storages.trial_store import Trial
from opttune.tracking.study_run import StudyRun
from opttune.trial_record import TrialRecord

_POLL_SECONDS = 0.2
_OTHERS_SECONDS = 1.0
"""Interval at which to check whether another process's training has created new work."""


class TrainingLoop:
    """Runs the actions of a policy: a search, or its confirmation.

    Args:
        policy: Chooses the next action.
        store: The study.
        engine: Runs the trainings.
        tracking: The search's run.
        reporter: Shows the progress.
        interrupts: Defers Ctrl-C while no training runs.
        leave_out: Called with an optimizer for which no more trials should be proposed.

    Attributes:
        interrupted: Whether Ctrl-C or SIGTERM stopped the loop.
        stopped_because: Why the loop ended before its limits, in a sentence; empty if it did not.
        checkpoints: The files in the search's folder.
    """

    def __init__(
        self,
        policy: Policy,
        store: StudyStore,
        engine: Engine,
        tracking: StudyRun,
        reporter: ProgressReporter,
        interrupts: DeferredInterrupts,
        leave_out: Callable[[str], None] = lambda optimizer: None,
    ) -> None:
        self.config = policy.config
        self.store = store
        self.interrupted = False
        self.stopped_because = ""
        self.checkpoints = CheckpointStore(self.config, store.leases.is_shared)
        self._policy = policy
        self._engine = engine
        self._reporter = reporter
        self._interrupts = interrupts
        self._started = time.monotonic()
        self._recorder = TrialRecorder(self.config, store, policy, self.checkpoints, tracking, reporter)
        self._failures = FailureStopper(len(self.config.space.optimizers))
        self._leave_out = leave_out
        self._training: dict[int, TrialRecord] = {}
        self._last_ticket = 0
        self._stop_by: float | None = None
        self._is_done = False

    @property
    def warnings(self) -> list[str]:
        """Warnings about the end of the loop, one sentence each."""
        return [*self._failures.left_out.values(), *filter(None, [self.stopped_because])]

    def run(self) -> None:
        """Train until nothing is left, a limit is reached, Ctrl-C comes, or every trial fails alike."""
        self.store.leases.start()
        self._recorder.requeue(self.store.reclaim_stale())
        self.checkpoints.remove_orphans([*self.store.records(), *self.store.runs()])
        try:
            while self._advance():
                pass
        except KeyboardInterrupt:
            # just before or after a fit; within it, the attempt turns it into an outcome
            self.interrupted = True
        self.interrupted = self.interrupted or self._interrupts.stop_requested
        # the same command continues after the failures are fixed
        self._is_done = not (self.interrupted or self._failures.verdict or self._continues_elsewhere())

    def close(self) -> None:
        """Close all trials and their runs, however the loop ended."""
        self._engine.close()
        self._recorder.close(self._is_done)
        if self._is_done and Role.TRIAL in self._policy.roles:
            self.checkpoints.drop_all()
        self.store.leases.end()

    def _advance(self) -> bool:
        """Start the possible trainings, and record the ended ones; return whether to continue."""
        while not self._is_over() and len(self._training) < self._engine.slots and self._begin_next():
            pass
        if self._training:
            return self._wait()
        if self._is_over():
            return False
        if self._is_late() or not self._others_train():
            # what has ended since may have brought something to do
            return self.store.leases.is_shared and self._begin_next()
        time.sleep(_OTHERS_SECONDS)
        return True

    def _is_over(self) -> bool:
        self.interrupted = self.interrupted or self._interrupts.stop_requested
        self.stopped_because = self.stopped_because or self._failures.verdict
        return self.interrupted or bool(self.stopped_because)

    def _is_late(self) -> bool:
        timeout = self.config.timeout_seconds
        return timeout is not None and time.monotonic() - self._started >= timeout

    def _others_train(self) -> bool:
        """Return whether other processes train for this study; trainings of dead processes are requeued."""
        self._recorder.requeue(self.store.reclaim_stale())
        runs = [run for run in self.store.runs() if run.role in self._policy.roles]
        return any(record.is_running for record in (*self.store.records(), *runs))

    def _continues_elsewhere(self) -> bool:
        """Return whether other processes need the waiting trials; a process may be between two trainings."""
        if not self.store.leases.is_shared:
            return False
        if self._others_train():
            return True
        time.sleep(_OTHERS_SECONDS)
        return self._others_train()

    def _begin_next(self) -> bool:
        """Start the next training; return whether there was one."""
        with self.store.batch():
            action = self._next_action()
            return action is not None and self._begin(action)

    def _next_action(self) -> Action | None:
        if self.store.leases.is_shared:
            self._recorder.requeue(self.store.reclaim_stale())
        records, runs = self.store.records(), self.store.runs()
        spent = Spent(self.store.steps_seen, time.monotonic() - self._started, self._is_late())
        action = self._policy.next_action(records, runs, spent)
        if action is None and not spent.is_late and not any(one.is_running for one in (*records, *runs)):
            self.stopped_because = self._policy.why_ended(records)
        return action

    def _begin(self, action: Action) -> bool:
        """Claim the training of an action, and give it to the engine."""
        match action:
            case Train():
                claimed = self.store.claim_run(action.job)
            case StartBaseline():
                claimed = self._sampled(self.store.trials.begin(baseline_parameters(self.config.space) or {}))
            case Repeat():
                self.store.trials.repeat(action.number)
                claimed = self._ask()
            case Promote():
                trials = self.store.trials
                claimed = trials.record(action.number) if trials.claim(action.number) else None
            case _:
                claimed = self._ask()
        if claimed is not None:
            self._submit(claimed)
        return True

    def _ask(self) -> TrialRecord:
        return self._sampled(self.store.trials.ask())

    def _sampled(self, trial: Trial) -> TrialRecord:
        try:
            recipe = sample_recipe(self.config.space, trial)
        except OpttuneError:
            self.store.trials.fail(trial)
            raise
        return replace(self.store.trials.record(trial.number), recipe=recipe)

    def _submit(self, record: TrialRecord) -> None:
        """Train to the next rung, from the last checkpoint."""
        log = self._recorder.begin(record)
        attempt = self._recorder.attempt(record)
        self._reporter.training_started(record)
        self._last_ticket += 1
        self._training[self._last_ticket] = record
        listener = TrainingListener(log, self._reporter, self._interrupts, record)
        try:
            self._engine.submit(self._last_ticket, attempt, listener)
        except OpttuneError as err:
            self._record(Done(self._last_ticket, err))

    def _wait(self) -> bool:
        """Record the next training that ends; return whether to continue."""
        with self._interrupts.released() if self._engine.trains_here else nullcontext():
            done = self._engine.next_done(_POLL_SECONDS)
        if done is not None:
            with self.store.batch():
                self._record(done)
        if not self._interrupts.stop_requested:
            return True
        if self._stop_by is None:
            self._stop_by = time.monotonic() + GRACE_SECONDS
            self._engine.stop()
        return not self._interrupts.is_forced and time.monotonic() < self._stop_by

    def _record(self, done: Done) -> None:
        record, result = self._training.pop(done.job), done.result
        if isinstance(result, OpttuneError):
            self._record_error(record, result)
            raise result
        result = self._recorder.counted(record, result)
        if result.reason is StopReason.FAILED and self._interrupts.stop_requested:
            # a library has turned Ctrl-C into its own error
            message = f"interrupted at step {result.steps}"
            result = replace(result, reason=StopReason.INTERRUPTED, message=message, traceback="")
        self.interrupted = self.interrupted or result.reason is StopReason.INTERRUPTED or result.is_look_stopped
        if record.role is Role.CONFIRMATION and result.total_steps not in (0, self._policy.total_steps):
            raise StudyError(
                f"the search trained for {self._policy.total_steps} steps, now a full training has "
                f"{result.total_steps}: the data or the Trainer changed."
            )
        # an error before the state is loaded means no step
        result = replace(result, steps=max(result.steps, record.saved_steps))
        self._recorder.take(record, result)
        self._reporter.training_ended(record, result, self.store.steps_spent)
        if record.role in (Role.TRIAL, Role.REPLICATE):
            self._failures.note(result, record.optimizer)
            for optimizer in self._failures.left_out:
                self._leave_out(optimizer)

    def _record_error(self, record: TrialRecord, error: OpttuneError) -> None:
        # on a full disk no recipe is to blame, and an auxiliary run is requeued: both resume
        if record.role is Role.TRIAL and not isinstance(error, DiskFullError):
            share = self.config.step_costs.share(record.recipe)
            total = self._policy.total_steps
            failed = Outcome(StopReason.FAILED, None, record.steps, total, 0.0, str(error), share=share)
            self._recorder.end(record, failed)
