"""What each part of the search of long trainings is worth: whole searches on recorded trainings with the part left out.

    python benchmarks/record_table.py long_mlp long_regression long_mnist1d long_lstm
    python benchmarks/race_parts.py --jobs 2

Another seed changes little in such a search. Priors that are right, or wrong by up to 1.5 decades either way, take the
place of seeds. The command prints, for each part and budget, the mean rank in its table of the best recipe trained to
the end (0 is the best), and in how many searches it is better and worse than with all parts. `search_bench/tables.py`
says which tables are for development and which are only reported on.
"""

import argparse
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context

import numpy as np
from search_bench.ablations import ABLATIONS, left_out
from search_bench.load_tables import CACHE, load_recorded
from search_bench.ours import OURS, replay_ours
from search_bench.statistics import aligned
from search_bench.table_engine import best_so_far
from search_bench.tables import Table, group_of

ALL = "ours"
SHIFTS = (-1.5, -0.75, 0.0, 0.75, 1.5)
"""Decades by which the priors of all rates are wrong."""
PARTS = tuple(name for name in ABLATIONS if name != "ours:no_wait_for_own")
"""Tables have no recipe of the module's own to wait for."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search.

    Attributes:
        table: Name of the table's file.
        method: What is left out; `ours` for nothing.
        shift: By how many decades the priors are wrong.
        budget: Cost in full trainings.
    """

    table: str
    method: str
    shift: float
    budget: float

    def without_parts(self) -> "Search":
        """Return the same search with all parts."""
        return Search(self.table, ALL, self.shift, self.budget)


@cache
def _load(name: str) -> Table:
    return load_recorded(CACHE / f"{name}.npz")


def run(search: Search) -> tuple[Search, float]:
    """Return a search and the rank of its best recipe, as a share of the table."""
    warnings.simplefilter("ignore")
    table = _load(search.table)
    with left_out(search.method):
        meter = replay_ours(table, search.budget, 0, **{**OURS.get(search.method, {}), "shift": search.shift})
    return search, min((rank for _, rank in best_so_far(meter.finished, table)), default=1.0)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=sorted(path.stem for path in CACHE.glob("long_*.npz")))
    parser.add_argument("--methods", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--budgets", nargs="+", type=float, default=[1.5, 3.0, 5.0, 10.0])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    if not options.tables:
        raise SystemExit("no long table is recorded: python benchmarks/record_table.py long_mlp long_regression")
    searches = [
        Search(table, method, shift, budget)
        for method in (ALL, *options.methods)
        for table in options.tables
        for shift in SHIFTS
        for budget in options.budgets
    ]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        ranks = dict(pool.map(run, searches))
    for group in sorted({group_of(f"recorded/{table}") for table in options.tables}):
        tables = [table for table in options.tables if group_of(f"recorded/{table}") == group]
        print(f"{group}: {', '.join(tables)}; {len(tables) * len(SHIFTS)} searches a cell\n{_rows(ranks, tables)}\n")


def _rows(ranks: dict[Search, float], tables: Sequence[str]) -> str:
    methods = dict.fromkeys(search.method for search in ranks)
    budgets = dict.fromkeys(search.budget for search in ranks)
    rows = [["left out", *(f"budget {budget:g}" for budget in budgets)]]
    for method in methods:
        row = ["nothing" if method == ALL else method]
        for budget in budgets:
            own = [search for search in ranks if (search.method, search.budget) == (method, budget)]
            row.append(_cell(ranks, [search for search in own if search.table in tables]))
        rows.append(row)
    return aligned(rows)


def _cell(ranks: dict[Search, float], searches: Sequence[Search]) -> str:
    differences = [ranks[search] - ranks[search.without_parts()] for search in searches]
    better, worse = sum(one < 0 for one in differences), sum(one > 0 for one in differences)
    return f"{np.mean([ranks[search] for search in searches]):.3f} (+{better} -{worse})"


if __name__ == "__main__":
    main()
