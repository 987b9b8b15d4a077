"""Where the recorded tables come from: `own/` and `deepobs/` of the shared data, and what `record_table.py` made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from opttune.space.model import Branch, Choice, Field, Space
from search_bench.lm_schedules import load_lm_schedules
from search_bench.tables import GROUPS, Table, rate_branches
from search_bench.taskset import load_taskset

CACHE = Path(__file__).parents[1] / ".tables"
"""Where `record_table.py` puts its tables."""
OWN_NAMES = {"sgdm": "sgd"}
DEEPOBS_NAMES = {
    "AdamOptimizer": {"optimizer": "adam", "momentum": None},
    "MomentumOptimizer": {"optimizer": "sgd", "momentum": 0.9},
    "GradientDescentOptimizer": {"optimizer": "sgd", "momentum": 0.0},
}
"""DeepOBS's optimizers in the catalog's words; one field of the space tells the last two apart."""
EVALUATIONS = 20
"""As many validations of a training are kept: DeepOBS has one an epoch, up to 350."""
ORDER = ("cosine", "linear", "wsd", "constant")
"""The schedules, the customary one first."""


def load_tables(names: Sequence[str], data: Path) -> list[Table]:
    """Load tables.

    Args:
        names: Which, as in `GROUPS`.
        data: Folder with `own/` and `deepobs/`.
    """
    return [load_table(name, data) for name in names]


def load_table(name: str, data: Path) -> Table:
    """Load one table.

    Raises:
        SystemExit: It is not there; the message says how to get it.
    """
    folder, problem = name.split("/")
    if folder == "recorded":
        return load_recorded(CACHE / f"{problem}.npz")
    if folder == "lm_schedules":
        return load_lm_schedules(data / folder)
    if folder == "taskset":
        return load_taskset(data / folder / f"{problem}.parquet")
    return load_own(data / folder, problem) if folder == "own" else load_deepobs(data / folder, problem)


def table_names(data: Path) -> list[str]:
    """Return the tables that are there, those of `DEVELOP` first."""
    there = [
        name
        for name in chain.from_iterable(GROUPS.values())
        if name.startswith("recorded/") or (data / name.split("/")[0]).is_dir()
    ]
    return [
        name for name in there if not name.startswith("recorded/") or (CACHE / f"{name.split('/')[1]}.npz").exists()
    ]


def load_own(folder: Path, problem: str) -> Table:
    """Load a table of `own/`: 300 steps, four optimizers, four schedules."""
    table = pd.read_csv(folder / f"own_{problem}_s0.csv").rename(columns={"warmup_frac": "warmup_fraction"})
    table["optimizer"] = table.optimizer.replace(OWN_NAMES)
    curves = np.load(folder / f"own_{problem}_s0.npz")
    return factorial(
        f"own/{problem}", table.to_dict("records"), curves["eval_steps"], curves["val_loss"], curves["train_loss"]
    )


def load_recorded(path: Path) -> Table:
    """Load a table that `record_table.py` has made."""
    if not path.exists():
        raise SystemExit(f"{path} is not there. Record it: python benchmarks/record_table.py")
    stored = np.load(path)
    names = ("optimizer", "lr", "schedule", "warmup_fraction")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(stored[name].tolist() for name in names), strict=True)]
    table = factorial(f"recorded/{path.stem}", rows, stored["eval_steps"], stored["val_loss"], stored["train_loss"])
    if "look_steps" not in stored or not len(stored["look_steps"]):
        return table
    return replace(table, look_steps=tuple(stored["look_steps"].tolist()), looks=stored["looks"].astype(float))


def factorial(
    name: str, rows: list[dict[Any, Any]], eval_steps: np.ndarray, values: np.ndarray, losses: np.ndarray
) -> Table:
    """Return a table in which each combination of its fields was recorded, with the loss of every step."""
    steps = losses.shape[1]
    others = {key: tuple(dict.fromkeys(row[key] for row in rows)) for key in ("weight_decay",) if key in rows[0]}
    fields: dict[str, Field] = {key: Choice(choices) for key, choices in others.items()}
    warmups = tuple(sorted({row["warmup_fraction"] for row in rows}))
    # the larger one first: the customary recipe has a warmup
    warmup = Choice(warmups, start=len(warmups) - 1)
    schedules = [schedule for schedule in ORDER if any(row["schedule"] == schedule for row in rows)]
    space = Space(
        name.replace("/", "_"),
        optimizers=rate_branches(rows, dict.fromkeys(_names(rows), fields), steps),
        schedules=tuple(Branch(schedule, (("warmup_fraction", warmup),)) for schedule in schedules),
    )
    return Table(
        name, space, rows, steps, eval_steps, values.astype(float), np.arange(1, steps + 1), losses.astype(float)
    )


def load_deepobs(folder: Path, problem: str) -> Table:
    """Load a table of DeepOBS: constant schedules, 36 rates, Adam and SGD with and without momentum."""
    runs = pd.read_parquet(folder / "do_runs.parquet")
    runs = runs[runs.problem == problem].sort_values(["optimizer", "lr"])
    rows = [{**DEEPOBS_NAMES[run.optimizer], "lr": float(run.lr)} for run in runs.itertuples()]
    total, epochs = int(runs.steps.iloc[0]), int(runs.num_epochs.iloc[0])
    kept = np.unique(np.round(np.arange(1, EVALUATIONS + 1) * epochs / EVALUATIONS).astype(int))
    values = _wide(pd.read_parquet(folder / "do_epochs.parquet"), runs.run, "epoch", "test_loss")
    losses = _wide(pd.read_parquet(folder / "do_steps.parquet"), runs.run, "step", "loss")
    fields: Mapping[str, dict[str, Field]] = {"adam": {}, "sgd": {"momentum": Choice((0.9, 0.0))}}
    return Table(
        name=f"deepobs/{problem}",
        space=Space(f"deepobs_{problem}", optimizers=rate_branches(rows, fields, total)),
        rows=rows,
        steps=total,
        eval_steps=np.round(kept * total / epochs).astype(int),
        values=values[kept].to_numpy(),
        loss_steps=losses.columns.to_numpy() + 1,
        losses=losses.to_numpy(),
    )


def _wide(long: pd.DataFrame, runs: "pd.Series[int]", column: str, value: str) -> pd.DataFrame:
    """Return one row a run and one column a step; a run that ended early, with NaN, stays NaN."""
    return (
        long[long.run.isin(runs)]
        .pivot_table(index="run", columns=column, values=value, dropna=False, aggfunc="first")
        .reindex(runs)
    )


def _names(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["optimizer"] for row in rows))
