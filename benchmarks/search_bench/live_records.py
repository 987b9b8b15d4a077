"""The records of live searches: one JSON line each, so that files can be continued and concatenated."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

BUDGET = 20.0
"""Cost of a search in full trainings: `opttune.search`'s default."""

Key = tuple[str, str, int, float]
"""Task, method, seed and budget: what tells one search from another."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One trial.

    Attributes:
        spent: Optimizer steps of the whole search at its end.
        value: The validation loss at the full length; None where it was ended before.
        recipe: What was trained, in one line; empty in older records.
        reached: Share of the full length that it was trained to; None where that is not recorded.
        seen: Its last value before the full length; None where there is none.
    """

    spent: int
    value: float | None
    recipe: str = ""
    reached: float | None = None
    seen: float | None = None


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """One search.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        seed: Of the sampler, of the weights and of the order of the data.
        budget: Cost in full trainings that it had.
        steps: Optimizer steps of a full training.
        trials: Its trials, in the order in which they ended.
        seconds: How long it took.
        handed: The value of what the search handed out; None where that is the best of its trials.
    """

    task: str
    method: str
    seed: int
    budget: float
    steps: int
    trials: tuple[Trained, ...]
    seconds: float
    handed: float | None = None

    @property
    def key(self) -> Key:
        """What was run."""
        return self.task, self.method, self.seed, self.budget

    @property
    def spent(self) -> int:
        """Optimizer steps of the whole search."""
        return self.trials[-1].spent if self.trials else 0

    def best(self, most_trials: int | None = None) -> float:
        """Return the best value of the first trials; infinity where none came to the end."""
        return min((t.value for t in self.trials[:most_trials] if t.value is not None), default=float("inf"))

    def best_at(self, cost: float) -> float:
        """Return the best value at a cost in full trainings; infinity before any."""
        reached = [t.value for t in self.trials if t.value is not None and t.spent <= cost * self.steps]
        return min(reached, default=float("inf"))

    def handed_at(self, cost: float) -> float:
        """Return the value that the search's user has at a cost: at its whole budget what it handed out."""
        return self.handed if self.handed is not None and cost >= self.budget else self.best_at(cost)

    def steps_to(self, value: float) -> int | None:
        """Return the optimizer steps spent when a value was reached, or None where it never was."""
        return next((t.spent for t in self.trials if t.value is not None and t.value <= value), None)

    def to_json(self) -> str:
        """Return the record as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "LiveRecord":
        """Read a line back."""
        fields = json.loads(line)
        return cls(**{**fields, "trials": tuple(Trained(**trial) for trial in fields["trials"])})


def read_records(paths: Iterable[Path]) -> list[LiveRecord]:
    """Read files of records; of a search that was run twice the later one counts."""
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines() if line.strip()]
    return list({record.key: record for record in map(LiveRecord.from_json, lines)}.values())
