"""The charts of cost: the best value over the steps spent, and the optimizers at equal cost."""

from collections.abc import Sequence

from opttune.report.chart import INK, Chart, Panel, Rule, Series, is_steep, room_for
from opttune.report.colours import optimizer_colours, shown_recipe
from opttune.study.frozen_study import FrozenStudy
from opttune.study.selection import is_better
from opttune.trial_record import TrialRecord


def best_over_cost(study: FrozenStudy) -> Chart | None:
    """Draw the best value so far over what the search had spent, and every finished trial; None where none is."""
    finished = _by_cost(study.records)
    if not finished:
        return None
    colours = optimizer_colours(study)
    values = [record.value or 0.0 for record in finished]
    x, y = _best_so_far([(_cost(study, record), record.value or 0.0) for record in finished], study.config.mode)
    end = study.steps_spent / study.total_steps
    series = [Series("best so far", [*x, end], [*y, y[-1]], "steps", INK, width=2.0)]
    for name, colour in colours.items():
        own = [record for record in finished if record.recipe and record.recipe.optimizer.name == name]
        if own:
            series.append(
                Series(
                    name,
                    [_cost(study, record) for record in own],
                    [record.value or 0.0 for record in own],
                    "dots",
                    colour,
                    labels=[shown_recipe(record) for record in own],
                )
            )
    log = is_steep([*values, *_baseline_values(study)])
    rules = [Rule(value, "as it came") for value in _baseline_values(study)]
    panel = Panel(
        f"cost so far, in full trainings of {study.total_steps:,} steps",
        study.config.monitor,
        series,
        rules=rules,
        y_log=log,
        y_range=room_for([*values, *_baseline_values(study)], log=log),
        x_from_zero=True,
    )
    return Chart(
        "best_over_cost",
        "Best value over the cost of the search",
        "Each dot is a training of the full length; the line is the best of those so far.",
        [panel],
    )


def equal_cost(study: FrozenStudy) -> Chart | None:
    """Draw what each optimizer reached for what was spent on it; None where fewer than two finished a training."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    costs: dict[str, float] = {}
    for name in optimizer_colours(study):
        own = [record for record in study.records if record.recipe and record.recipe.optimizer.name == name]
        spent, points = 0.0, []
        for record in sorted(own, key=lambda record: (record.steps_spent is None, record.steps_spent or 0)):
            spent += record.steps / study.total_steps
            if record.value is not None:
                points.append((spent, record.value))
        if points:
            x, y = _best_so_far(points, study.config.mode)
            lines[name], costs[name] = ([*x, spent], [*y, y[-1]]), spent
    if len(lines) < 2:
        return None
    colours = optimizer_colours(study)
    series = [Series(name, x, y, "steps", colours[name], width=2.0) for name, (x, y) in lines.items()]
    series += [Series("", x[:-1], y[:-1], "dots", colours[name]) for name, (x, y) in lines.items()]
    values = [value for _, y in lines.values() for value in y]
    log = is_steep(values)
    panel = Panel(
        f"spent on the optimizer, in full trainings of {study.total_steps:,} steps",
        f"best {study.config.monitor}",
        series,
        rules=[Rule(min(costs.values()), "all have spent this", is_upright=True)],
        y_log=log,
        y_range=room_for(values, log=log),
        x_from_zero=True,
    )
    return Chart(
        "equal_cost",
        "The optimizers at equal cost",
        "What each optimizer had reached for what its own trials had cost, those that were stopped included. Read at "
        "the upright line: to its right only some of them were given more. One seed each; `opttune confirm` says "
        "what is beyond noise.",
        [panel],
    )


def equal_cost_rows(study: FrozenStudy) -> list[dict[str, object]]:
    """Return a row for each optimizer: trials, cost, best value, and its value at the cost that all have spent."""
    chart = equal_cost(study)
    if chart is None:
        return []
    (panel,) = chart.panels
    at = panel.rules[0].at
    rows = []
    for series in (each for each in panel.series if each.name):
        reached = [y for x, y in zip(series.x, series.y, strict=True) if x <= at + 1e-9]
        own = [r for r in study.records if r.recipe and r.recipe.optimizer.name == series.name]
        rows.append(
            {
                "optimizer": series.name,
                "trials": len(own),
                "trainings": series.x[-1],
                "best": series.y[-1],
                f"at {at:.1f} trainings": reached[-1] if reached else None,
            }
        )
    return rows


def _by_cost(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    finished = [record for record in records if record.value is not None and record.steps_spent is not None]
    return sorted(finished, key=lambda record: record.steps_spent or 0)


def _cost(study: FrozenStudy, record: TrialRecord) -> float:
    return (record.steps_spent or 0) / study.total_steps


def _baseline_values(study: FrozenStudy) -> list[float]:
    return [study.baseline.value] if study.baseline is not None and study.baseline.value is not None else []


def _best_so_far(points: Sequence[tuple[float, float]], mode: str) -> tuple[list[float], list[float]]:
    x: list[float] = []
    y: list[float] = []
    for cost, value in points:
        if not y or is_better(value, y[-1], mode):
            x.append(cost)
            y.append(value)
    return x, y
