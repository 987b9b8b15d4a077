"""How far above the best of 18 recipes a search ends on recorded trainings of a language model of 124M parameters.

    python benchmarks/lm_schedules.py             # 20 seeds, a budget of 1.9 trainings
    python benchmarks/lm_schedules.py --budget 1.5 3

`search_bench/lm_schedules.py` describes the data. Nothing of the search was chosen on them.
"""

import argparse
from pathlib import Path

import numpy as np
from search_bench.lm_schedules import NAME, customary_value
from search_bench.load_tables import load_table
from search_bench.ours import replay_ours

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with lm_schedules/")
    parser.add_argument("--budget", type=float, nargs="+", default=[1.9], help="full trainings (default: 1.9)")
    parser.add_argument("--seeds", type=int, default=20, help="a count (default: 20)")
    options = parser.parse_args()
    table = load_table(NAME, options.data)
    best, final = table.final_values.min(), table.final_values
    above = final - best
    print(f"{len(table.rows)} recipes of {table.steps:,} steps; the best ends at {best:.4f} nats")
    print(f"  above it: median recipe {np.median(above):.4f}, worst {above.max():.4f}")
    customary = customary_value(options.data / "lm_schedules") - best
    print(f"  customary cosine to a tenth at 1e-3: {customary:.4f} above, at a cost of 1.0")
    for budget in options.budget:
        found, spent = [], []
        for seed in range(options.seeds):
            meter = replay_ours(table, budget, seed)
            found.append(min(above[row] for _, row in meter.finished))
            spent.append(meter.spent / table.steps)
        print(
            f"opttune, budget {budget:g}: {np.mean(found):.4f} above [{min(found):.4f}, {max(found):.4f}] over "
            f"{options.seeds} seeds, at a cost of {np.mean(spent):.2f} [{min(spent):.2f}, {max(spent):.2f}]"
        )


if __name__ == "__main__":
    main()
