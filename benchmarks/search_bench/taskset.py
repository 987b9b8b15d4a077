"""TaskSet's recurrent text classifiers as tables: 1,000 random settings of Adam each, 10,000 steps.

The settings are no grid, so a search proposes a setting and gets the nearest one that it has not tried, and learns from
that one's own values. The priors are those that the catalog has for Adam; penalties and decays, of which it knows
nothing, begin where they do nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial

import opttune
from opttune.catalog.info import OptimizerInfo, OptionInfo
from opttune.catalog.lookup import find_optimizer, optimizer_names
from opttune.catalog.ranges import SearchRange
from opttune.integration.sampler import OpttuneSampler
from opttune.space.model import Branch, Range, Space
from search_bench.tables import Floats, Table

NAME = "taskset_adam"
STEPS, EVERY = 10_000, 200
_COLUMNS = {"learning_rate": "lr", "epsilon": "eps"}
_FIELDS = ("lr", "beta1", "beta2", "eps", "l1", "l2", "linear_decay", "exponential_decay")
_LEAST = {"eps": 1e-6, "l1": 1e-6, "l2": 1e-6, "linear_decay": 1e-6, "exponential_decay": 1e-5}
"""Below these a setting does as good as nothing: all such settings count as alike."""
_PRIORS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "l1": 1e-8, "l2": 1e-8}
_WEIGHTS = np.array([3.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0])
"""What a decade of each field counts in the distance of two settings."""


@dataclass(frozen=True)
class TaskSetTable(Table):
    """A table whose settings are no grid."""

    @cached_property
    def _places_of_rows(self) -> Floats:
        return np.array([_place(row) for row in self.rows])

    @property
    def customary_rows(self) -> tuple[int, ...]:
        """The settings in the ranges that people give Adam; penalties and epsilon are small."""
        ranges = {"lr": (1e-4, 3e-2), "eps": (0.0, 0.1), "l1": (0.0, 0.01), "l2": (0.0, 0.01)}
        return tuple(
            number
            for number, row in enumerate(self.rows)
            if all(low <= row[name] <= high for name, (low, high) in ranges.items())
        )

    def find(self, flat: Mapping[str, Any]) -> int:
        """Return the setting that is nearest to a recipe."""
        return int(self.nearest(flat)[0])

    def nearest(self, flat: Mapping[str, Any]) -> np.ndarray:
        """Return the settings, the nearest to some fields first."""
        return np.argsort(((self._places_of_rows - _place(flat)) ** 2 @ _WEIGHTS**2), kind="stable")


class NearestUntried(OpttuneSampler):
    """Proposes the setting of a table that is the nearest to what opttune would try.

    Args:
        table: The table.
        space: What varies.
        settings: Further arguments of `OpttuneSampler`.
    """

    def __init__(self, table: TaskSetTable, space: Space, **settings: Any) -> None:
        super().__init__(space, **settings)
        self._table, self._branch = table, space.optimizers[0]
        self._rows: dict[int, int] = {}

    def _configuration(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        if trial.number not in self._rows:
            proposed = super()._configuration(study, trial)
            flat = {
                name: field.from_optuna(proposed[field.optuna_name(f"{NAME}.{name}")])
                for name, field in self._branch.fields
                if isinstance(field, Range)
            }
            tried = set(self._rows.values())
            row = next(int(row) for row in self._table.nearest(flat) if row not in tried)
            self._rows[trial.number] = row
            self._configurations[trial.number] = {
                field.optuna_name(f"{NAME}.{name}"): field.to_optuna(self._table.rows[row][name])
                for name, field in self._branch.fields
                if isinstance(field, Range)
            }
        return self._configurations[trial.number]


def load_taskset(path: Path) -> TaskSetTable:
    """Load one task."""
    _register()
    stored = pd.read_parquet(path).rename(columns=_COLUMNS)
    rows = [{"optimizer": NAME, **row} for row in stored[list(_FIELDS)].to_dict("records")]
    values = np.stack(stored.valid_loss.to_list()).astype(float)[:, 1:]
    losses = np.stack(stored.train_loss.to_list()).astype(float)[:, 1:]
    steps = np.arange(1, values.shape[1] + 1) * EVERY
    return TaskSetTable(
        name=f"taskset/{path.stem}",
        space=_space(rows),
        rows=rows,
        steps=STEPS,
        eval_steps=steps,
        values=values,
        loss_steps=steps,
        losses=losses,
    )


def _space(rows: list[dict[str, Any]]) -> Space:
    fields = []
    for name in _FIELDS:
        recorded = [row[name] for row in rows]
        scale = "log_of_one_minus" if name.startswith("beta") else "log"
        low, high = min(recorded), max(recorded)
        fields.append((name, Range(low, high, scale, prior=min(high, max(low, _PRIORS.get(name, low))))))
    lr = find_optimizer("adam").options[0].searchable["lr"]
    assert isinstance(lr, SearchRange)
    fields[0] = ("lr", Range(fields[0][1].low, fields[0][1].high, "log", prior=lr.centre_for(STEPS)))
    return Space("taskset", optimizers=(Branch(NAME, tuple(fields)),))


def _place(flat: Mapping[str, Any]) -> Floats:
    return np.array([_decades(name, flat[name]) for name in _FIELDS])


def _decades(name: str, value: float) -> float:
    if name.startswith("beta"):
        return log10(max(1e-7, 1 - value))
    return log10(max(_LEAST.get(name, 1e-9), value))


def _register() -> None:
    if NAME not in optimizer_names():
        options = tuple(OptionInfo(name, 1e-3, low=0.0) for name in _FIELDS)
        opttune.register_optimizer(OptimizerInfo(NAME, "torch.optim.Adam", "TaskSet's Adam8p", options, "TaskSet"))
