"""What opttune writes into an Optuna study, and the rows that it reads back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe

RECIPE, OUTCOME, STEPS_SPENT, RUN_KEY, RUNGS, TOTAL_STEPS, STOPPED_AT, HOLDER = (
    f"opttune.{name}"
    for name in ("recipe", "outcome", "steps_spent", "mlflow_run_key", "rungs", "total_steps", "stopped_at", "holder")
)
"""User attributes of a trial; `rungs` holds an outcome for each rung at which it was paused.
`holder` also stands with the study, as `holder.<name>`, for a training that is no trial's."""

SPEC, SPACE, BASELINE, PARENT_KEY, ALIVE, REPEATS, AUDIT = (
    f"opttune.{name}" for name in ("spec", "space", "baseline", "mlflow_run_key", "alive", "repeats", "guard_audit")
)
ORIGIN, OUT_DIR, STATUS, ANSWERED, CONFIRMED = (
    f"opttune.{name}" for name in ("origin", "out_dir", "status", "answered", "confirmed")
)
"""User attributes of a study; `repeats.<number>` holds an outcome for each further seed of a finished trial,
`alive.<holder>` counts up while a process trains some of its trials, `origin` is what the last search of it was told,
`confirmed` the trainings of a verdict, `status` how its run in MLflow ended."""

LOST_STEPS = "opttune.lost_steps"
"""User attribute of a trial, and of a study for trainings that are no trial's."""


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
            stopped_at=attributes.get(STOPPED_AT, 0),
            lost_steps=attributes.get(LOST_STEPS, 0),
            holder=attributes.get(HOLDER, ""),
        )

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


def read_repeats(attributes: Mapping[str, Any]) -> dict[int, tuple[Outcome, ...]]:
    """Return what finished trials gave on further seeds, by their number, from the attributes of a study."""
    stored = ((name.partition(f"{REPEATS}.")[2], value) for name, value in attributes.items())
    return {int(number): tuple(map(Outcome.from_dict, outcomes)) for number, outcomes in stored if number}


def steps_aside(attributes: Mapping[str, Any]) -> int:
    """Return the optimizer steps of trainings that are no trial's own, from the attributes of a study."""
    again = sum(outcome.steps for outcomes in read_repeats(attributes).values() for outcome in outcomes)
    return again + int(attributes.get(BASELINE, {}).get("steps", 0)) + int(attributes.get(LOST_STEPS, 0))


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
