"""Which learning rates are best in short trainings, and how much does a prior help that knows them?

Reads recorded runs: two full factorials of 300 steps (`own/`) and DeepOBS's sweeps at constant rates (`deepobs/`).

1. From each of the two tables the best rate of each optimizer is taken, and the other table judges it: the default
   recipe at that rate, and the best of a few draws around it, as quantiles of the table (0 is the best recipe).
2. From DeepOBS: how Adam's best constant rate falls with the length.

    python benchmarks/prior_length.py ../shared/data
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from opttune.algorithms.draws import draw_field
from opttune.space.fit import for_length
from opttune.space.model import Range
from opttune.space.parse import load_space

TABLES = ("digits_mlp", "mnist1d_mlp")
NAMES = {"sgdm": "sgd", "adamw": "adamw", "nadamw": "nadamw", "lion": "lion"}
"""The tables' optimizers -> the space's."""
STEPS = 300
LONG = 30_000
BEST_SHARE = 0.1
REPEATS = 2_000
DIVERGED = 1e9

Centres = Mapping[str, float]


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Return one row a configuration, with the validation loss at the end; falling schedules only."""
    table = pd.read_csv(folder / f"own_{name}_s0.csv")
    losses = np.load(folder / f"own_{name}_s0.npz")["val_loss"][:, -1]
    table["loss"] = np.nan_to_num(losses, nan=DIVERGED, posinf=DIVERGED)
    table = table[table.schedule != "constant"].copy()
    table["quantile"] = (table.loss.rank() - 1) / (len(table) - 1)
    table["own_quantile"] = table.groupby("optimizer").loss.rank(pct=True)
    return table


def fit(table: pd.DataFrame) -> Centres:
    """Return the geometric mean of the rates of each optimizer's best recipes."""
    best = table[table.own_quantile <= BEST_SHARE]
    return {name: float(np.exp(np.log(rates).mean())) for name, rates in best.groupby("optimizer").lr}


def wide_ranges(steps: int) -> dict[str, Range]:
    """Return the ranges of the rates in `wide`, as they are for trainings of that length."""
    branches = {branch.name: branch.get("lr") for branch in for_length(load_space("wide"), steps).optimizers}
    return {ours: field for ours, theirs in NAMES.items() if isinstance(field := branches[theirs], Range)}


def nearest(table: pd.DataFrame, optimizer: str, lr: float) -> pd.DataFrame:
    """Return the recipes of an optimizer at the recorded rate that is nearest."""
    rows = table[table.optimizer == optimizer]
    rates = rows.lr.unique()
    return rows[rows.lr == rates[np.abs(np.log(rates / lr)).argmin()]]


def default_quantile(table: pd.DataFrame, optimizer: str, lr: float) -> float:
    """Return the quantile, among the optimizer's recipes, of cosine with warmup at a rate."""
    rows = nearest(table, optimizer, lr)
    return float(rows[(rows.schedule == "cosine") & (rows.warmup_frac > 0)].own_quantile.mean())


def drawn_quantile(table: pd.DataFrame, ranges: Mapping[str, Range], draws: int, seed: int = 0) -> float:
    """Return the mean quantile of the best of some draws, over optimizers, rates and all else."""
    rng = np.random.default_rng(seed)
    at = {(name, lr): rows["quantile"].to_numpy() for (name, lr), rows in table.groupby(["optimizer", "lr"])}
    rates = np.array(sorted(table.lr.unique()))
    best = []
    for _ in range(REPEATS):
        drawn = []
        for name in rng.permutation(list(ranges))[np.arange(draws) % len(ranges)]:
            lr = float(draw_field(ranges[name], rng))  # type: ignore[arg-type]
            drawn.append(rng.choice(at[name, rates[np.abs(np.log(rates / lr)).argmin()]]))
        best.append(min(drawn))
    return float(np.mean(best))


def compare_centres(tables: Mapping[str, pd.DataFrame]) -> None:
    """Print what each table says of the centres that the other gave, beside the shipped ones."""
    print(f"best rates at {STEPS} steps (geometric mean over the best {BEST_SHARE:.0%} of each optimizer's recipes)")
    for name, table in tables.items():
        print(f"  {name:12}", *(f"{optimizer} {lr:.2g}" for optimizer, lr in fit(table).items()), sep="  ")
    shipped = {"customary": wide_ranges(LONG), "for_length": wide_ranges(STEPS)}
    for name, check in tables.items():
        other = next(table for key, table in tables.items() if key != name)
        fitted = {key: replace(field, prior=fit(other)[key]) for key, field in shipped["customary"].items()}
        print(f"\nchecked on {name}: quantile (0 best) of the default recipe, and of the best of n draws over all four")
        for label, ranges in {**shipped, "fitted on the other": fitted}.items():
            defaults = [f"{key} {default_quantile(check, key, field.centre):.2f}" for key, field in ranges.items()]
            drawn = [f"n={n} {drawn_quantile(check, ranges, n):.3f}" for n in (4, 8, 16)]
            print(f"  {label:20}", "  ".join(defaults), " | ", "  ".join(drawn))


def deepobs_slopes(folder: Path, optimizer: str) -> dict[str, tuple[float, float, float]]:
    """Return problem -> slope of log10 best rate over log10 steps, and the best rates at 1,000 and 30,000 steps."""
    runs, epochs = pd.read_parquet(folder / "do_runs.parquet"), pd.read_parquet(folder / "do_epochs.parquet")
    runs = runs[(runs.optimizer == optimizer) & (runs.problem != "quadratic_deep")]
    table = epochs.merge(runs, on="run")
    table = table[table.epoch > 0].assign(step=table.epoch * table.steps / table.num_epochs)
    table["loss"] = table.test_loss.fillna(DIVERGED)
    slopes = {}
    for problem, rows in table.groupby("problem"):
        points = [
            (np.log10(step), np.log10(epoch.nsmallest(3, "loss").lr).mean())
            for step, epoch in rows.groupby("step")
            if step <= LONG
        ]
        steps, rates = np.array(points).T
        slope, level = np.polyfit(steps, rates, 1)
        slopes[str(problem)] = (float(slope), 10 ** (level + slope * 3), 10 ** (level + slope * np.log10(LONG)))
    return slopes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with own/ and deepobs/")
    folder = parser.parse_args().data
    compare_centres({name: read_table(folder / "own", name) for name in TABLES})
    for optimizer in ("AdamOptimizer", "MomentumOptimizer"):
        print(f"\nDeepOBS, {optimizer} at constant rates: best rate over steps^slope, up to {LONG:,} steps")
        slopes = deepobs_slopes(folder / "deepobs", optimizer)
        for problem, (slope, early, late) in slopes.items():
            print(f"  {problem:18} slope {slope:5.2f}   {early:.1e} at 1,000 steps   {late:.1e} at {LONG:,}")
        print(f"  median slope {np.median([slope for slope, _, _ in slopes.values()]):.2f}")


if __name__ == "__main__":
    main()
