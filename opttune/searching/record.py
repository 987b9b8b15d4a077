"""What opttune writes into an Optuna study, and the rows that it reads back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe

RECIPE, OUTCOME, STEPS_SPENT, RUN_KEY, RUNGS, TOTAL_STEPS = (
    f"opttune.{name}" for name in ("recipe", "outcome", "steps_spent", "mlflow_run_key", "rungs", "total_steps")
)
"""User attributes of a trial; `rungs` holds an outcome for each rung at which it was paused."""

SPEC, SPACE, BASELINE, LOST_STEPS, PARENT_KEY, REPEATS = (
    f"opttune.{name}" for name in ("spec", "space", "baseline", "lost_steps", "mlflow_run_key", "repeats")
)
ORIGIN, OUT_DIR, STATUS, ANSWERED, CONFIRMED = (
    f"opttune.{name}" for name in ("origin", "out_dir", "status", "answered", "confirmed")
)
"""User attributes of a study; `repeats.<number>` holds an outcome for each further seed of a finished trial, `origin`
what the last search of it was told, `confirmed` the trainings of a verdict, `status` how its run in MLflow ended."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of a search.

    Attributes:
        number: Its number in the study, counted from 0.
        state: Optuna's word for its state, in lower case: `complete`, `pruned`, `fail`, `running`, `waiting`.
        recipe: What it trained with; None before it was sampled.
        outcome: What came of it; None before its end.
        steps_spent: Optimizer steps that the whole search had spent when it ended.
        pauses: The outcome at each rung where it was paused, in their order.
        repeats: What its recipe gave on further seeds, at the end of a search.
    """

    number: int
    state: str
    recipe: Recipe | None
    outcome: Outcome | None
    steps_spent: int | None
    pauses: tuple[Outcome, ...] = ()
    repeats: tuple[Outcome, ...] = ()

    @classmethod
    def of(cls, trial: FrozenTrial) -> "TrialRecord":
        """Read a trial back from its study."""
        attributes = trial.user_attrs
        return cls(
            number=trial.number,
            state=trial.state.name.lower(),
            recipe=Recipe.from_dict(attributes[RECIPE]) if RECIPE in attributes else None,
            outcome=Outcome.from_dict(attributes[OUTCOME]) if OUTCOME in attributes else None,
            steps_spent=attributes.get(STEPS_SPENT),
            pauses=tuple(Outcome.from_dict(pause) for pause in attributes.get(RUNGS, ())),
        )

    @property
    def value(self) -> float | None:
        """The monitored metric at the end of the full length, or None."""
        return self.outcome.value if self.outcome and self.outcome.reason.counts else None

    @property
    def steps(self) -> int:
        """Optimizer steps that it has done."""
        last = self.last
        return last.steps if last else 0

    @property
    def seconds(self) -> float:
        """Wall time of its training, the parts before its pauses included."""
        # one that was outranked has trained nothing since its last pause
        ended = self.outcome if self.outcome and self.outcome.reason is not StopReason.OUTRANKED else None
        return sum(pause.seconds for pause in self.pauses) + (ended.seconds if ended else 0.0)

    @property
    def last(self) -> Outcome | None:
        """What came of it, or where it waits; None where it has reached no rung yet."""
        return self.outcome or (self.pauses[-1] if self.pauses else None)

    @property
    def is_paused(self) -> bool:
        """Whether it waits at a rung, with its state saved."""
        return self.outcome is None and bool(self.pauses)

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


def told_state(outcome: Outcome) -> TrialState:
    """Return how Optuna is told of an outcome: divergence is PRUNED, so that its samplers learn from it."""
    if outcome.reason.counts:
        return TrialState.COMPLETE
    return TrialState.FAIL if outcome.reason is StopReason.FAILED else TrialState.PRUNED


def bad_value(outcome: Outcome, mode: str, others: Iterable[float] = ()) -> float:
    """Return the finite value that Optuna is told for a run that diverged.

    It is worse than any real value, and the worse the earlier the run died.

    Args:
        outcome: What came of the run.
        mode: `min` or `max`.
        others: The real values so far.
    """
    share = outcome.steps / max(1, outcome.total_steps)
    value = max(1e9, *map(abs, others), 0.0) * (2 - min(share, 0.9))
    return value if mode == "min" else -value


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Name what differs between the search that a study was made for and the one asked for."""
    words = []
    for key in sorted({*stored, *asked}):
        before, now = stored.get(key), asked.get(key)
        if before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            words += [f"{key}.{inner}" for inner in differences(before, now)]
        else:
            words.append(f"{key}: {json.dumps(before)} in the study, {json.dumps(now)} asked for")
    return words
