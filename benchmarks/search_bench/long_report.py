"""What searches of the long tasks have found, measured by the modules' own recipes and by an Optuna user's search."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from scipy.stats import rankdata

from search_bench.live import LONG_BUDGETS, LONG_METHODS, OWN
from search_bench.live_records import LiveRecord
from search_bench.long_tasks import LONG_DEVELOP, LONG_TASKS
from search_bench.statistics import aligned, geometric_mean, in_order, shown

PEERS = ("enqueued", "enqueued_adamw")
PEER_BUDGET = max(LONG_BUDGETS)
_SAME = 1e-4
"""Values that differ by less, as a share, count as the same."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one method had found in one search at one budget.

    Attributes:
        task: The task.
        seed: The seed.
        method: The method.
        budget: The budget.
        value: The validation loss of what was handed out; infinite where nothing was.
        own: That of the module's own recipe.
    """

    task: str
    seed: int
    method: str
    budget: float
    value: float
    own: float

    @property
    def ratio(self) -> float:
        """The value over the own recipe's; who is handed nothing keeps the own recipe."""
        return self.value / self.own if isfinite(self.value) else 1.0


def cells_of(records: Sequence[LiveRecord]) -> list[Cell]:
    """Return each method's value at each budget, of searches whose own recipe was trained.

    A search at the very budget counts first; of a method that was run at a larger one alone, its curve is read.
    """
    own = own_values(records)
    by_search: dict[tuple[str, int, str], list[LiveRecord]] = {}
    for record in records:
        if record.method != OWN and (record.task, record.seed) in own:
            by_search.setdefault((record.task, record.seed, record.method), []).append(record)
    cells = []
    for (task, seed, method), searches in by_search.items():
        for budget in LONG_BUDGETS:
            record = _at_budget(searches, budget)
            if record is not None:
                cells.append(Cell(task, seed, method, budget, record.handed_at(budget), own[task, seed]))
    return cells


def own_values(records: Iterable[LiveRecord]) -> dict[tuple[str, int], float]:
    """Return the own recipe's value of each task and seed."""
    return {(record.task, record.seed): record.best() for record in records if record.method == OWN}


def _at_budget(searches: Sequence[LiveRecord], budget: float) -> LiveRecord | None:
    exact = [record for record in searches if record.budget == budget]
    if exact:
        return exact[0]
    # a search whose decisions depend on its budget says nothing of a smaller one
    larger = [record for record in searches if record.budget > budget and record.method in PEERS]
    return min(larger, key=lambda record: record.budget, default=None)


def write_long_report(records: Sequence[LiveRecord]) -> str:
    """Return all tables."""
    cells, groups = cells_of(records), _groups(records)
    if not cells:
        return "The long tasks: no search yet beside a training of the own recipe (live --methods own)."
    parts = []
    for name, own in groups.items():
        chosen = [cell for cell in cells if cell.task in own]
        if chosen:
            parts.append(f"== {name}: {', '.join(own)}")
            parts.append(f"{_RATIO_HEAD}\n{_ratio_rows(chosen)}")
            parts.append(f"{_BEATEN_HEAD}\n{_beaten_rows(chosen)}")
            parts.append(f"{_RANK_HEAD}\n{_rank_rows(chosen)}")
            for peer in PEERS:
                rows = _cost_rows([record for record in records if record.task in own], peer)
                if rows:
                    parts.append(f"{_COST_HEAD.format(peer=peer)}\n{rows}")
    parts.append(f"{_TASK_HEAD}\n{_task_rows(cells)}")
    return "\n\n".join(parts)


_RATIO_HEAD = (
    "val_loss of what is handed out, over the own recipe's (geometric mean [95% interval] over tasks and seeds)"
)
_BEATEN_HEAD = "how often the own recipe was beaten / something worse, or nothing, was handed out / of how many"
_RANK_HEAD = "mean rank among the methods that have searched the same tasks, seeds and budget (1 is best; ties share)"
_COST_HEAD = (
    "cost to {peer}'s final best of a budget of 10, over {peer}'s whole cost: of the search at the largest budget\n"
    "(geometric mean [95% interval]; not reached counts with all that was spent; in brackets how many reached it),\n"
    "and in how many searches at each budget what was handed out is as good"
)
_TASK_HEAD = "by task: own recipe, and val_loss over it at each budget: geometric mean (least to greatest over seeds)"


def _groups(records: Sequence[LiveRecord]) -> Mapping[str, list[str]]:
    tasks = [name for name in LONG_TASKS if any(record.task == name for record in records)]
    return {
        "LONG DEVELOP": [name for name in tasks if name in LONG_DEVELOP],
        "LONG REPORT": [name for name in tasks if name not in LONG_DEVELOP],
    }


def _methods(cells: Iterable[Cell]) -> list[str]:
    return in_order((cell.method for cell in cells), LONG_METHODS)


def _head(first: str) -> list[str]:
    return [first, *(f"{budget:g}" for budget in LONG_BUDGETS)]


def _of(cells: Iterable[Cell], method: str, budget: float) -> list[Cell]:
    return [cell for cell in cells if cell.method == method and cell.budget == budget]


def _ratio_rows(cells: Sequence[Cell]) -> str:
    rows = [_head("method")]
    for method in _methods(cells):
        row = [method]
        for budget in LONG_BUDGETS:
            own = _of(cells, method, budget)
            row.append(str(geometric_mean([c.ratio for c in own], [c.task for c in own])) if own else "-")
        rows.append(row)
    return aligned(rows)


def _beaten_rows(cells: Sequence[Cell]) -> str:
    rows = [_head("method")]
    for method in _methods(cells):
        row = [method]
        for budget in LONG_BUDGETS:
            own = _of(cells, method, budget)
            beaten = sum(cell.value < cell.own * (1 - _SAME) for cell in own)
            worse = sum(isfinite(cell.value) and cell.value > cell.own * (1 + _SAME) for cell in own)
            nothing = sum(not isfinite(cell.value) for cell in own)
            row.append(f"{beaten} / {worse}{f' + {nothing} nothing' if nothing else ''} / {len(own)}" if own else "-")
        rows.append(row)
    return aligned(rows)


def mean_ranks(cells: Sequence[Cell], budget: float) -> dict[str, tuple[float, int]]:
    """Return each method's mean rank at a budget and over how many searches, of those that all methods have done."""
    there = [cell for cell in cells if cell.budget == budget]
    methods = _methods(there)
    by_search: dict[tuple[str, int], dict[str, float]] = {}
    for cell in there:
        by_search.setdefault((cell.task, cell.seed), {})[cell.method] = cell.value if isfinite(cell.value) else inf
    ranks = [rankdata([own[m] for m in methods]) for own in by_search.values() if len(own) == len(methods)]
    return {m: (float(np.mean([r[i] for r in ranks])), len(ranks)) for i, m in enumerate(methods) if ranks}


def _rank_rows(cells: Sequence[Cell]) -> str:
    ranks = {budget: mean_ranks(cells, budget) for budget in LONG_BUDGETS}
    rows = [_head("method")]
    for method in _methods(cells):
        found = [ranks[budget].get(method) for budget in LONG_BUDGETS]
        rows.append([method, *("-" if one is None else f"{one[0]:.2f} of {one[1]}" for one in found)])
    return aligned(rows)


def cost_to(record: LiveRecord, peer: LiveRecord) -> float:
    """Return the cost at which a search reached a peer's final best, over the peer's whole cost."""
    reached = record.steps_to(peer.best())
    return (record.spent if reached is None else reached) / peer.spent


def _cost_rows(records: Sequence[LiveRecord], peer: str) -> str:
    """Return the rows of all methods; empty where the peer was not run."""
    peers = {(r.task, r.seed): r for r in records if r.method == peer and r.budget == PEER_BUDGET}
    if not peers:
        return ""
    rows = [["method", "cost", *(f"by {budget:g}" for budget in LONG_BUDGETS)]]
    cells = cells_of(records)
    for method in _methods(cells):
        own = [r for r in records if r.method == method and r.budget == PEER_BUDGET and (r.task, r.seed) in peers]
        costs = geometric_mean([cost_to(r, peers[r.task, r.seed]) for r in own], [r.task for r in own])
        reached = sum(r.steps_to(peers[r.task, r.seed].best()) is not None for r in own)
        row = [method, f"{costs} ({reached} of {len(own)})" if own else "-"]
        for budget in LONG_BUDGETS:
            there = [cell for cell in _of(cells, method, budget) if (cell.task, cell.seed) in peers]
            good = sum(cell.value <= peers[cell.task, cell.seed].best() for cell in there)
            row.append(f"{good} of {len(there)}" if there else "-")
        rows.append(row)
    return aligned(rows)


def _task_rows(cells: Sequence[Cell]) -> str:
    rows = [["task", "method", "own", *(f"{budget:g}" for budget in LONG_BUDGETS), "seeds"]]
    for task in (name for name in LONG_TASKS if any(cell.task == name for cell in cells)):
        for method in _methods(cells):
            own = [cell for cell in cells if cell.task == task and cell.method == method]
            if own:
                yardstick = {cell.seed: cell.own for cell in own}
                spreads = [_spread(_of(own, method, budget)) for budget in LONG_BUDGETS]
                start = f"{np.exp(np.mean(np.log(list(yardstick.values())))):.4g}"
                rows.append([task, method, start, *spreads, str(len(yardstick))])
    return aligned(rows)


def _spread(cells: Sequence[Cell]) -> str:
    if not cells:
        return "-"
    ratios = [cell.ratio for cell in cells]
    middle = geometric_mean(ratios, ["one"] * len(ratios)).value
    return f"{shown(middle)} ({shown(min(ratios))} to {shown(max(ratios))})"


def write_log(records: Sequence[LiveRecord]) -> str:
    """Return what each search trained, in the order in which the trainings ended or were paused for the last time."""
    lines = []
    for record in records:
        best, handed = record.best(), record.handed
        end = f"best {best:.4g}" + ("" if handed is None else f", handed out {handed:.4g}")
        lines.append(f"{' '.join(map(str, record.key))}: {end}, {record.spent / record.steps:.2f} trainings")
        for one in record.trials:
            reached = "" if one.reached is None else f"to {one.reached:.0%}"
            value = one.value if one.value is not None else one.seen
            seen = "-" if value is None else f"{value:.4g}"
            lines.append(f"  {one.spent / record.steps:6.2f}  {reached:8}  {seen:8}  {one.recipe}")
    return "\n".join(lines)
