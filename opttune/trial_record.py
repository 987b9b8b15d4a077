"""`TrialRecord`: the record of one training, as a plain value."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe


@dataclass(frozen=True)
class TrialRecord:
    """One training of a search: a trial, or an auxiliary run.

    A search reads the derived properties repeatedly, so they are computed once.

    Attributes:
        number: Its number in the study, counted from 0. Auxiliary runs have their own count.
        state: Optuna's word for its state, in lower case: `complete`, `pruned`, `fail`, `running`, `waiting`.
        recipe: The recipe; None before it was sampled, and for the module's own optimizer.
        outcome: Its outcome; None before its end.
        steps_spent: Optimizer steps of the whole search at its end.
        pauses: The outcome at each rung where it paused, in order.
        replicates: The results of a trial's recipe on further seeds.
        stopped_at: Optimizer step beyond the last rung where it was interrupted and its state was saved; 0 for none.
        stopped_look: Its outcome at a rung where it was stopped in its look; only the look is missing.
        lost_steps: Optimizer steps that were interrupted without a saved state, and those of stopped looks.
        holder: The process that trains it, or trained it last.
        auxiliary: The job of an auxiliary run; None for a trial.
        seconds_spent: Seconds of all trainings of the search at its end; None before, and in studies of earlier
            versions.
        source: The source of its values, if it was not trained here; then it has no cost.
    """

    number: int
    state: str
    recipe: Recipe | None
    outcome: Outcome | None
    steps_spent: int | None
    pauses: tuple[Outcome, ...] = ()
    replicates: tuple[Outcome, ...] = ()
    stopped_at: int = 0
    stopped_look: Outcome | None = None
    lost_steps: int = 0
    holder: str = ""
    auxiliary: TrainingJob | None = None
    seconds_spent: float | None = None
    source: str = ""

    @property
    def role(self) -> Role:
        """The role of the training."""
        return Role.TRIAL if self.auxiliary is None else self.auxiliary.role

    @property
    def name(self) -> str:
        """A unique name in the search, such as `trial_3` or `baseline_0`."""
        return f"{self.role}_{self.number}"

    @property
    def is_trial(self) -> bool:
        """Whether it is one of the search's trials."""
        return self.auxiliary is None

    @property
    def is_baseline(self) -> bool:
        """Whether it is the baseline: its own run, or the trial of an unmoved `own`."""
        return self.role is Role.BASELINE or (self.auxiliary is None and self._is_baseline)

    @cached_property
    def _is_baseline(self) -> bool:
        return self.recipe is not None and self.recipe.is_baseline

    @property
    def was_discarded(self) -> bool:
        """Whether it was paused at a rung and discarded there."""
        return self.outcome is not None and self.outcome.reason is StopReason.OUTRANKED

    @property
    def title(self) -> str:
        """Its name in the answer."""
        return "the baseline, your own optimizer, is the best" if self.is_baseline else f"trial {self.number}"

    def job(self, seed: int) -> TrainingJob:
        """Return its training job.

        Args:
            seed: The search's seed, which all trials share.
        """
        return self.auxiliary or TrainingJob(self.recipe, seed, trial=self.number)

    @cached_property
    def value(self) -> float | None:
        """The monitored metric at the end of the full length, or None."""
        return self.outcome.value if self.outcome and self.outcome.reason.counts else None

    @cached_property
    def steps(self) -> int:
        """Optimizer steps done at its end, or at its last rung."""
        last = self.last
        return last.steps if last else 0

    @cached_property
    def saved_steps(self) -> int:
        """Optimizer steps that need no repetition."""
        return max(self.steps, self.stopped_at)

    @cached_property
    def steps_done(self) -> int:
        """Its optimizer steps, including lost ones and those of looks."""
        if self.source:
            return 0
        return self.saved_steps + self.lost_steps + sum(pause.look_steps for pause in self.pauses)

    @property
    def seconds(self) -> float:
        """Wall time of its training, including the parts before its pauses."""
        # a trial that was not promoted has not trained since its last pause
        ended = self.outcome.seconds if self.outcome and not self.was_discarded else 0.0
        return sum(pause.seconds for pause in self.pauses) + ended

    @property
    def step_seconds(self) -> float | None:
        """Mean wall time of one of its optimizer steps; None if it was not measured."""
        parts = [*self.pauses, *([self.outcome] if self.outcome else [])]
        done, seconds, weight = 0, 0.0, 0
        for part in parts:
            steps, done = part.optimizer_steps - done, part.optimizer_steps
            if part.step_seconds is not None and steps > 0:
                seconds, weight = seconds + part.step_seconds * steps, weight + steps
        return seconds / weight if weight else None

    @cached_property
    def last(self) -> Outcome | None:
        """Its outcome, or its last pause; None before its first rung."""
        return self.outcome or (self.pauses[-1] if self.pauses else None)

    @cached_property
    def is_paused(self) -> bool:
        """Whether it waits at a rung, or between two, with its state saved."""
        return self.outcome is None and bool(self.pauses) and not self.is_running

    @cached_property
    def waits_to_begin(self) -> bool:
        """Whether it has started but passed no rung; then it is trained before a new trial."""
        return self.state == "waiting" and not self.pauses

    @cached_property
    def is_interrupted(self) -> bool:
        """Whether it was interrupted before its first rung, and waits to be trained again."""
        return self.waits_to_begin and self.recipe is not None

    @cached_property
    def is_running(self) -> bool:
        """Whether a process trains it, as far as the study knows."""
        return self.outcome is None and self.state == "running"

    @property
    def optimizer(self) -> str:
        """The name of its optimizer; empty without a recipe."""
        return self.recipe.optimizer.name if self.recipe else ""

    @property
    def rate(self) -> float | None:
        """Its learning rate, or the factor on the module's own; None if it has none."""
        return self.recipe.optimizer.split()[0].rate if self.recipe else None

    @property
    def rung(self) -> float | None:
        """The highest share of the full length at which it was compared with other trials; None before the first."""
        if self.value is not None:
            return 1.0
        return self.pauses[-1].steps / self.pauses[-1].total_steps if self.pauses else None

    def row(self) -> dict[str, Any]:
        """Return the trial as a row of `SearchResult.trials`."""
        return {
            "number": self.number,
            "state": self.state,
            "reason": str(self.last.reason) if self.last else "",
            "value": self.value,
            "steps": self.last.optimizer_steps if self.last else 0,
            "steps_spent": self.steps_spent,
            "rung": self.rung,
            "seconds_spent": self.seconds_spent,
            "step_seconds": self.step_seconds,
            **(self.recipe.flat() if self.recipe else {}),
        }
