"""Successive halving alone: random draws from customary ranges, two looks, one full training."""

import numpy as np

from search_bench.table_engine import Meter
from search_bench.tables import Floats, Table

HALVING = ("halving_alone",)
_RUNGS = ((15, 0.02), (3, 0.1), (1, 1.0))
"""Number of trainings and the share of the length to which they go: 1.44 full trainings in all."""


def replay_halving(table: Table, budget: float, seed: int) -> Meter:
    """Search a table with successive halving of random draws, again and again while the budget lasts."""
    meter, draws = Meter(table), np.random.default_rng(seed)
    while True:
        start = meter.spent
        rows = draws.permutation(table.customary_rows)[: _RUNGS[0][0]]
        steps_done = 0
        for count, share in _RUNGS:
            steps = round(share * table.steps)
            rows = rows[np.argsort(_values(table, rows, steps_done), kind="stable")][:count]
            meter.pay(len(rows) * (steps - steps_done))
            steps_done = steps
        meter.finish(int(rows[0]))
        if meter.spent + (meter.spent - start) > budget * table.steps:
            return meter


def _values(table: Table, rows: np.ndarray, step: int) -> Floats:
    """Return the validation loss of each configuration at a step; infinite without one."""
    values = [table.value_at(int(row), step) for row in rows]
    return np.array([np.inf if value is None else value for value in values])
