"""What a replay has found, as text and as a plot."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from search_bench.replay import METHODS, Record
from search_bench.statistics import aligned, in_order, look, mean, ratio
from search_bench.tables import GROUPS, group_of

TOP = 0.05
"""A configuration among this share of the best is what a search is after."""
CHECKPOINTS = (5, 10, 20)
"""Costs, in full trainings, at which the best so far is shown."""
REFERENCE = "tpe_median"
_INTERVALS = "95% bootstrap intervals over tables, and seeds within them"


def cost_to_top(record: Record, top: float = TOP) -> float:
    """Return the cost at which a search had seen a configuration of the top share through; its budget if never."""
    return next((cost for cost, quantile in record.best if quantile <= top), record.budget)


def has_hit(record: Record, top: float = TOP) -> bool:
    """Return whether it ever did."""
    return any(quantile <= top for _, quantile in record.best)


def best_at(record: Record, cost: float) -> float:
    """Return the quantile of the best configuration at a cost; 1, the worst, before any was seen through."""
    return min((quantile for spent, quantile in record.best if spent <= cost), default=1.0)


def write_report(records: Sequence[Record]) -> str:
    """Return a table of numbers for each group of tables, for all of them and for each table alone."""
    groups = {name: [record for record in records if group_of(record.table) == name] for name in GROUPS}
    parts = []
    for title, chosen in (*groups.items(), ("all", records)):
        if chosen:
            tables = len({record.table for record in chosen})
            seeds = len({record.seed for record in chosen})
            parts.append(f"{title}: {tables} tables x {seeds} seeds, {_INTERVALS}\n{_rows(chosen)}")
    parts.append(f"mean cost to the top {TOP:.0%}, by table\n{_by_table(records)}")
    return "\n\n".join(parts)


def _methods(records: Iterable[Record]) -> list[str]:
    return in_order((record.method for record in records), METHODS)


def _of(records: Iterable[Record], method: str) -> list[Record]:
    return sorted((r for r in records if r.method == method), key=lambda record: (record.table, record.seed))


def _rows(records: Sequence[Record]) -> str:
    head = ["method", f"cost to top {TOP:.0%}", f"/ {REFERENCE}", "hit rate", *(f"q@{cost}" for cost in CHECKPOINTS)]
    rows = [head]
    reference = {(r.table, r.seed): cost_to_top(r) for r in records if r.method == REFERENCE}
    for method in _methods(records):
        own = _of(records, method)
        tables = [record.table for record in own]
        pairs = [(cost_to_top(r), reference[r.table, r.seed], r.table) for r in own if (r.table, r.seed) in reference]
        against = str(ratio(*zip(*pairs, strict=True))) if pairs else "-"
        hit = mean([float(has_hit(record)) for record in own], tables)
        quantiles = [str(mean([best_at(record, cost) for record in own], tables)) for cost in CHECKPOINTS]
        rows.append([method, str(mean([cost_to_top(r) for r in own], tables)), against, str(hit), *quantiles])
    return aligned(rows)


def _by_table(records: Sequence[Record]) -> str:
    tables = sorted({record.table for record in records}, key=lambda name: (group_of(name), name))
    rows = [["", *(f"{name} ({group_of(name)[0]})" for name in tables)]]
    for method in _methods(records):
        own = _of(records, method)
        costs = [[cost_to_top(record) for record in own if record.table == table] for table in tables]
        rows.append([method, *(f"{np.mean(cost):.1f}" if cost else "-" for cost in costs)])
    return aligned(rows)


def save_plot(records: Sequence[Record], path: Path) -> None:
    """Draw the mean quantile of the best configuration over the cost, a panel for each group of tables."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = [name for name in GROUPS if any(group_of(r.table) == name for r in records)]
    figure, panels = pyplot.subplots(1, len(groups), figsize=(7 * len(groups), 5), squeeze=False)
    methods = _methods(records)
    costs = np.linspace(0, max(record.budget for record in records), 101)
    for panel, group in zip(panels[0], groups, strict=True):
        chosen = [record for record in records if group_of(record.table) == group]
        for method in _methods(chosen):
            curves = [[best_at(record, cost) for cost in costs] for record in _of(chosen, method)]
            panel.plot(costs, np.mean(curves, axis=0), label=method, **look(method, methods))
        panel.axhline(TOP, color="grey", lw=0.8, ls=":")
        panel.set(
            title=group, yscale="log", xlabel="cost (full trainings)", ylabel="mean quantile of the best (0 best)"
        )
        panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
