"""What live searches have found, as text and as a plot."""

from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path

import numpy as np

from search_bench.live import ALL_TASKS, LONG_METHODS, METHODS
from search_bench.live_optuna import TRIALS
from search_bench.live_records import LiveRecord
from search_bench.statistics import aligned, geometric_mean, in_order, look, shown
from search_bench.tasks import DEVELOP

REFERENCES = ("tpe_median", "expert_median", "expert_hyperband")
"""Whose final best, of 25 trials, the others are to reach: what people write today first."""
CHECKPOINTS = (5, 10, 20)
"""Costs, in full trainings, at which the best value so far is shown."""


def cost_ratio(record: LiveRecord, reference: LiveRecord, trials: int = TRIALS) -> float:
    """Return the cost at which a search reached a reference's final best, over the reference's whole cost.

    A search that never did counts with all that it spent.
    """
    last = reference.trials[:trials][-1]
    reached = record.steps_to(reference.best(trials))
    return (record.spent if reached is None else reached) / last.spent


def write_report(records: Sequence[LiveRecord]) -> str:
    """Return the ratios against each reference by group of tasks, and the best values at equal cost."""
    groups = {
        "DEVELOP": [record for record in records if record.task in DEVELOP],
        "REPORT": [record for record in records if record.task not in DEVELOP],
        "all": list(records),
    }
    parts = []
    for reference in REFERENCES:
        if any(record.method == reference for record in records):
            head = f"cost to reach the final best of {reference}'s {TRIALS} trials, over its whole cost in steps"
            note = "geometric mean [95% bootstrap interval] over tasks and their seeds; in brackets how many reached it"
            parts.append(f"{head}\n{note}\n{_ratio_rows(groups, reference)}")
            parts.append(f"the same by task (geometric mean over seeds)\n{_ratios_by_task(records, reference)}")
    parts.append(f"best val_loss at a cost in full trainings (geometric mean over seeds)\n{_best_rows(records)}")
    return "\n\n".join(parts)


def _methods(records: Iterable[LiveRecord]) -> list[str]:
    return in_order((record.method for record in records), (*METHODS, *LONG_METHODS))


def _tasks(records: Iterable[LiveRecord]) -> list[str]:
    there = {record.task for record in records}
    return [name for name in ALL_TASKS if name in there]


def _pairs(records: Iterable[LiveRecord], method: str, reference: str) -> list[tuple[LiveRecord, LiveRecord]]:
    references = {(record.task, record.seed): record for record in records if record.method == reference}
    own = [record for record in records if record.method == method and (record.task, record.seed) in references]
    return [(record, references[record.task, record.seed]) for record in own]


def _ratio_cell(records: Sequence[LiveRecord], method: str, reference: str) -> str:
    pairs = _pairs(records, method, reference)
    if not pairs:
        return "-"
    reached = sum(record.steps_to(other.best(TRIALS)) is not None for record, other in pairs)
    ratios = [cost_ratio(record, other) for record, other in pairs]
    return f"{geometric_mean(ratios, [record.task for record, _ in pairs])} ({reached} of {len(pairs)})"


def _ratio_rows(groups: dict[str, list[LiveRecord]], reference: str) -> str:
    rows = [["method", *groups]]
    for method in _methods(groups["all"]):
        rows.append([method, *(_ratio_cell(records, method, reference) for records in groups.values())])
    return aligned(rows)


def _ratios_by_task(records: Sequence[LiveRecord], reference: str) -> str:
    tasks = _tasks(records)
    rows = [["method", *(f"{task} ({'D' if task in DEVELOP else 'R'})" for task in tasks)]]
    for method in _methods(records):
        cells = []
        for task in tasks:
            pairs = _pairs([record for record in records if record.task == task], method, reference)
            ratios = [cost_ratio(record, other) for record, other in pairs]
            cells.append(shown(geometric_mean(ratios, [task] * len(ratios)).value))
        rows.append([method, *cells])
    return aligned(rows)


def _best_rows(records: Sequence[LiveRecord]) -> str:
    rows = [["task", "method", *(f"at {cost}" for cost in CHECKPOINTS), "seeds", "seconds"]]
    for task in _tasks(records):
        for method in _methods(records):
            own = [record for record in records if record.task == task and record.method == method]
            if own:
                values = [_geometric([record.best_at(cost) for record in own]) for cost in CHECKPOINTS]
                seconds = f"{np.mean([record.seconds for record in own]):.0f}"
                rows.append([task, method, *(f"{value:.4g}" for value in values), str(len(own)), seconds])
    return aligned(rows)


def _geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values)))) if all(isfinite(value) for value in values) else float("inf")


def save_plot(records: Sequence[LiveRecord], path: Path) -> None:
    """Draw the best value over the cost, a panel for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks, methods = _tasks(records), _methods(records)
    figure, panels = pyplot.subplots(-(-len(tasks) // 3), min(3, len(tasks)), figsize=(15, 9), squeeze=False)
    costs = np.linspace(0.5, max(record.budget for record in records), 79)
    for panel, task in zip(panels.flat, tasks, strict=False):
        for method in methods:
            own = [record for record in records if record.task == task and record.method == method]
            curve = [_geometric([record.best_at(cost) for record in own]) if own else float("inf") for cost in costs]
            panel.plot(costs, curve, label=method, **look(method, methods))
        panel.set(title=task, yscale="log", xlabel="cost (full trainings)", ylabel="best val_loss")
    panels[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
