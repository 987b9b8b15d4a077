"""`TrialRecord`: one trial of a search, as a plain value."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a search; what follows from its fields is worked out once, as a search asks for it again and again.

    Attributes:
        number: Its number in the study, counted from 0.
        state: Optuna's word for its state, in lower case: `complete`, `pruned`, `fail`, `running`, `waiting`.
        recipe: What it trained with; None before it was sampled.
        outcome: What came of it; None before its end.
        steps_spent: Optimizer steps that the whole search had spent when it ended.
        pauses: The outcome at each rung where it was paused, in their order.
        repeats: What its recipe gave on further seeds, at the end of a search.
        stopped_at: Optimizer step beyond the last rung where somebody stopped it and its state was saved; 0 for none.
        lost_steps: Optimizer steps of it that were stopped without a saved state.
        holder: The process that trains it, or did last.
    """

    number: int
    state: str
    recipe: Recipe | None
    outcome: Outcome | None
    steps_spent: int | None
    pauses: tuple[Outcome, ...] = ()
    repeats: tuple[Outcome, ...] = ()
    stopped_at: int = 0
    lost_steps: int = 0
    holder: str = ""

    @cached_property
    def value(self) -> float | None:
        """The monitored metric at the end of the full length, or None."""
        return self.outcome.value if self.outcome and self.outcome.reason.counts else None

    @cached_property
    def steps(self) -> int:
        """Optimizer steps that it had done at its end, or at its last rung."""
        last = self.last
        return last.steps if last else 0

    @cached_property
    def saved_steps(self) -> int:
        """Optimizer steps that need not be done again."""
        return max(self.steps, self.stopped_at)

    @cached_property
    def steps_done(self) -> int:
        """Optimizer steps that were done for it, those that were lost and those on further seeds included."""
        return self.saved_steps + self.lost_steps + sum(again.steps for again in self.repeats)

    @property
    def seconds(self) -> float:
        """Wall time of its training, the parts before its pauses included."""
        # one that was outranked has trained nothing since its last pause
        ended = self.outcome if self.outcome and self.outcome.reason is not StopReason.OUTRANKED else None
        return sum(pause.seconds for pause in self.pauses) + (ended.seconds if ended else 0.0)

    @cached_property
    def last(self) -> Outcome | None:
        """What came of it, or where it waits; None where it has reached no rung yet."""
        return self.outcome or (self.pauses[-1] if self.pauses else None)

    @cached_property
    def is_paused(self) -> bool:
        """Whether it waits at a rung, or between two, with its state saved."""
        return self.outcome is None and bool(self.pauses) and not self.is_running

    @cached_property
    def waits_to_begin(self) -> bool:
        """Whether it is one of those that `StudyStore.ask` takes before it makes a new one."""
        return self.state == "waiting" and not self.pauses

    @cached_property
    def is_running(self) -> bool:
        """Whether it is trained just now, as far as the study knows."""
        return self.outcome is None and self.state == "running"

    @property
    def rung(self) -> float | None:
        """The highest share of the full length at which it was compared with others; None where it reached none."""
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
            "steps": self.steps,
            "steps_spent": self.steps_spent,
            "rung": self.rung,
            **(self.recipe.flat() if self.recipe else {}),
        }
