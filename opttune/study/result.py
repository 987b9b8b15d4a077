"""`SearchResult`: what a search gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from opttune.recipe import Recipe
from opttune.storages.records import read_trial
from opttune.study.config import SearchConfig
from opttune.trial_record import TrialRecord


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search gives back.

    Attributes:
        best_recipe: The recipe with the best value; None where no trial came through. Where the best trials were
            trained on a second seed, the one that is best over both.
        best_value: Its value on the search's own seed.
        baseline_value: What the module reached as it came, at the same length and seed; None where that was
            not tried or gave no value.
        trials: One row a trial: `number, state, reason, value, steps, steps_spent, rung` and a column for each
            field of the recipes. `steps_spent` is what the whole search had spent when the row was reached.
        steps_spent: Optimizer steps of the whole search.
        study: The Optuna study.
        run_id: MLflow's id of the parent run; None where MLflow could not be reached.
        warnings: What the user should know, one sentence each.
        stability: For each optimizer of which trials diverged, how many did and up to which learning rate it
            stayed stable, one sentence each.
        replaced: The optimizer that the module came with, in words.
        budget_steps: Optimizer steps that the whole search may spend.
        config: What the search was told.
        write_report: What `report` calls.
    """

    best_recipe: Recipe | None
    best_value: float | None
    baseline_value: float | None
    trials: pd.DataFrame
    steps_spent: int
    study: optuna.Study
    run_id: str | None
    warnings: tuple[str, ...]
    stability: tuple[str, ...]
    replaced: str
    budget_steps: int
    config: SearchConfig
    write_report: Callable[[str | Path | None], Path] = field(repr=False)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report: one HTML file that opens offline, and a picture of each of its figures.

        Args:
            path: A folder, or the HTML file, whose folder takes the pictures as well; None for the search's own.

        Returns:
            The HTML file.

        Raises:
            InputError: It cannot be written there.
        """
        return self.write_report(path)


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return the trials as a table, a row each; fields that a recipe lacks are missing values."""
    columns = list(TrialRecord(0, "", None, None, None).row())
    table = pd.DataFrame([record.row() for record in records])
    return table if len(table) else pd.DataFrame(columns=columns)


def plain_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the rows of the table as plain values, None where a field is missing."""
    rows = [read_trial(trial).row() for trial in study.trials]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]
