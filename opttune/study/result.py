"""`SearchResult`: the result of a search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from opttune.recipe import Recipe
from opttune.storages.records import read_trial
from opttune.study.answer import NO_ANSWER, Answer
from opttune.study.config import SearchConfig
from opttune.trial_record import TrialRecord


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search.

    Attributes:
        answer: The answer of the search.
        trials: One row per trial: `number, state, reason, value, steps, steps_spent, rung` and a column for each
            field of the recipes. `steps_spent` counts the steps of the whole search up to the row's value.
        steps_spent: Optimizer steps of the whole search.
        study: The Optuna study.
        run_id: MLflow's id of the parent run; None if MLflow could not be reached.
        warnings: Warnings about the search and its answer, one sentence each.
        budget_steps: Optimizer steps that the whole search may spend.
        config: The configuration of the search.
        write_report: The function behind `report`.
    """

    answer: Answer
    trials: pd.DataFrame
    steps_spent: int
    study: optuna.Study
    run_id: str | None
    warnings: tuple[str, ...]
    budget_steps: int
    config: SearchConfig
    write_report: Callable[[str | Path | None], Path] = field(repr=False)

    def __repr__(self) -> str:
        lines = self.answer.lines or [f"{NO_ANSWER} The column reason of trials says why."]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    @property
    def best_recipe(self) -> Recipe | None:
        """The recipe with the best value; over both seeds, if the best trials were trained on a second one.

        None if no trial finished with a value.
        """
        return self.answer.recipe

    @property
    def best_value(self) -> float | None:
        """Its value on the search's own seed."""
        return self.answer.value

    @property
    def baseline_value(self) -> float | None:
        """The value of the user's own optimizer, at the same length and seed.

        None if it was not trained or gave no value.
        """
        return self.answer.baseline_value

    @property
    def replaced(self) -> str:
        """The module's own optimizer, in words."""
        return self.answer.replaced

    @property
    def stability(self) -> tuple[str, ...]:
        """For each optimizer with diverged trials, their number and the highest stable learning rate."""
        return self.answer.stability

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report: one HTML file that opens offline, and an image of each of its charts.

        Args:
            path: A folder, or the HTML file, whose folder also receives the images; None for the search's folder.

        Returns:
            The HTML file.

        Raises:
            InputError: It cannot be written there.
        """
        return self.write_report(path)


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return the trials as a table with one row each; fields that a recipe lacks are missing values."""
    columns = list(TrialRecord(0, "", None, None, None).row())
    table = pd.DataFrame([record.row() for record in records])
    return table if len(table) else pd.DataFrame(columns=columns)


def plain_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the rows of the table as plain values, None if a field is missing."""
    rows = [read_trial(trial).row() for trial in study.trials]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]
