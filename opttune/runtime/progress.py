"""Who watches a search: the terminal, or nobody."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.study.config import SearchConfig
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord


class ProgressReporter(Protocol):
    """Hears of everything that a person may want to see; nothing here may block."""

    def search_started(
        self, config: SearchConfig, survey: ModelInspection, records: Sequence[TrialRecord], steps_spent: int
    ) -> None:
        """Take what is searched, and what an earlier part of the search has done."""

    def training_started(self, number: int | None, recipe: Recipe | None) -> None:
        """Take what is trained from now on; no number and recipe for the module as it came."""

    def steps(self, number: int | None, records: list[StepRecord]) -> None:
        """Take the numbers of some optimizer steps of a training."""

    def metrics(self, number: int | None, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics that a training's module logged, after a validation."""

    def training_ended(self, number: int | None, outcome: Outcome, steps_spent: int) -> None:
        """Take what came of it, and what the whole search has spent."""

    def repeat_ended(self, number: int, outcome: Outcome, steps_spent: int) -> None:
        """Take what a trial's recipe gave on the second seed, and what the whole search has spent."""

    def trial_outranked(self, number: int) -> None:
        """Take that a paused trial is given up."""
