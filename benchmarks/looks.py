"""Which early value predicts the end of a long training: that at a rung, that of a copy whose rate comes down there, or
that of the average of the weights over the last fifth of the steps.

    python benchmarks/record_table.py long_mlp long_regression long_mnist1d
    python benchmarks/looks.py

For each table of `record_table.py` that holds looks, and each share of the length: Spearman's rank correlation of the
value there with the final one, among the better 60% of the trainings, for the three values.
"""

import numpy as np
from scipy.stats import spearmanr
from search_bench.load_tables import CACHE, load_recorded
from search_bench.tables import Floats, Table, group_of

BETTER = 0.6


def correlations(table: Table, averaged: Floats) -> list[tuple[float, float, float, float]]:
    """Return for each look its share of the length, and the correlations of the three values."""
    final = np.array(table.final_values)
    best = np.argsort(final)[: round(BETTER * len(final))]
    found = []
    for column, step in enumerate(table.look_steps):
        raw = np.array([table.value_at(row, step) or np.nan for row in range(len(table.rows))])
        looked = np.array(table.looks)[:, column]
        values = (raw, looked, averaged[:, column])
        found.append((step / table.steps, *(_correlation(early, final, best) for early in values)))
    return found


def _correlation(early: Floats, final: Floats, best: np.ndarray) -> float:
    if not np.isfinite(early).any():
        # the curves have a value at every twentieth of the length alone
        return float("nan")
    early = np.where(np.isfinite(early), early, np.inf)
    return float(spearmanr(early[best], final[best]).statistic)


def main() -> None:
    """Print a table."""
    paths = sorted(CACHE.glob("long_*.npz"))
    if not paths:
        raise SystemExit("no long table is recorded: python benchmarks/record_table.py long_mlp long_regression")
    for path in paths:
        table, stored = load_recorded(path), np.load(path)
        if "averaged" not in stored:
            raise SystemExit(f"{path} holds no averages of weights. Record it again: record_table.py {path.stem}")
        print(f"{table.name} ({group_of(table.name)}): {len(table.rows)} trainings of {table.steps} steps")
        for share, raw, looked, averaged in correlations(table, stored["averaged"].astype(float)):
            print(f"  {share:4.0%}  at the rung {raw:5.2f}  rate comes down {looked:5.2f}  averaged {averaged:5.2f}")


if __name__ == "__main__":
    main()
