"""The trainings of a verdict: each candidate on each seed, in the same loop as a search."""

from collections.abc import Sequence

from rich.console import Console

from opttune.confirming.candidates import Candidate
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.runtime.policy import Action, Policy, Spent, Train
from opttune.runtime.progress import ProgressReporter
from opttune.study.config import SearchConfig
from opttune.trial_record import TrialRecord


class ConfirmationPolicy(Policy):
    """Trains each candidate on each seed, seed by seed. It does not repeat the finished trainings of an earlier call.

    Args:
        config: The configuration of the search.
        total_steps: Optimizer steps of the full length.
        candidates: The candidates to train.
        seeds: The seeds.
    """

    roles = frozenset({Role.CONFIRMATION})

    def __init__(
        self, config: SearchConfig, total_steps: int, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> None:
        super().__init__(config, total_steps)
        self.candidates, self.seeds = tuple(candidates), tuple(seeds)
        self.jobs = [
            TrainingJob(candidate.recipe, seed, Role.CONFIRMATION, label=candidate.label)
            for seed in seeds
            for candidate in candidates
        ]

    def next_action(self, records: Sequence[TrialRecord], runs: Sequence[TrialRecord], spent: Spent) -> Action | None:
        """Return the next training that has not ended and that no process runs; None if none is left."""
        known = {run.auxiliary: run for run in reversed(runs)}
        waiting = (job for job in self.jobs if job not in known or known[job].state == "waiting")
        return next(map(Train, waiting), None)


class ConfirmationReporter(ProgressReporter):
    """Prints one line for each training that has ended.

    Args:
        console: The console to write to.
        policy: The policy of the verdict.
    """

    def __init__(self, console: Console, policy: ConfirmationPolicy) -> None:
        self._console, self._jobs, self._monitor = console, policy.jobs, policy.config.monitor
        self._count = 0

    def show_ended(self, runs: Sequence[TrialRecord]) -> None:
        """Show the number of trainings, and those of earlier calls."""
        self._console.print(f"{len(self._jobs)} trainings on new seeds", markup=False)
        known = {run.auxiliary: run for run in reversed(runs) if run.outcome is not None}
        for job in self._jobs:
            if job in known and (outcome := known[job].outcome) is not None:
                self._show(job, outcome)

    def training_ended(self, record: TrialRecord, outcome: Outcome, steps_spent: int) -> None:
        """Show a training that has ended."""
        if record.auxiliary is not None and outcome.reason not in (StopReason.PAUSED, StopReason.INTERRUPTED):
            self._show(record.auxiliary, outcome)

    def _show(self, job: TrainingJob, outcome: Outcome) -> None:
        self._count += 1
        what = outcome.words if outcome.value is None else f"{outcome.value:.5g}"
        line = f"[{self._count} of {len(self._jobs)} trainings] {job.label}, seed {job.seed}: {self._monitor} {what}"
        self._console.print(line, markup=False)
