"""The charts of values: over the cost, by optimizer, over the learning rate, and on the seeds of the verdict."""

from collections.abc import Callable, Sequence
from math import isfinite

from opttune.confirming.verdict import study_verdict
from opttune.recipe import OWN
from opttune.report.chart import GREY, INK, RED, Chart, Panel, Rule, Series, Style, is_steep, room_for
from opttune.report.trials import baseline_value, has_diverged, optimizer_colours, trial_label, trials_of
from opttune.space.model import Range, Space
from opttune.study.answer import cost_ratio
from opttune.study.frozen_study import FrozenStudy
from opttune.study.selection import is_better
from opttune.trial_record import TrialRecord


def best_over_cost(study: FrozenStudy) -> Chart | None:
    """Draw the best value so far, and every finished trial, over steps and over seconds; None if none finished."""
    finished = _by_cost(study.records)
    if not finished:
        return None
    full = study.total_steps
    unit = f"full trainings of {full:,} steps" if study.config.budget_unit == "steps" else "times of a full training"
    panels = [_over_cost(study, finished, lambda one: (one.steps_spent or 0) / full, study.steps_spent / full, unit)]
    # studies of earlier versions do not know the seconds
    if all(record.seconds_spent is not None for record in finished):
        panels.append(
            _over_cost(
                study, finished, lambda one: one.seconds_spent or 0.0, study.seconds_spent, "seconds of training"
            )
        )
    return Chart(
        "best_over_cost",
        "Best value over the cost of the search",
        "Each dot is a training of the full length; the line is the best value so far.",
        panels,
    )


def _over_cost(
    study: FrozenStudy,
    finished: Sequence[TrialRecord],
    cost: Callable[[TrialRecord], float],
    end: float,
    unit: str,
) -> Panel:
    x, y = _best_so_far([(cost(record), record.value or 0.0) for record in finished], study.config.mode)
    series = [Series("best so far", [*x, max(end, x[-1])], [*y, y[-1]], "steps", INK, width=2.0)]
    for name, colour in optimizer_colours(study).items():
        own = trials_of(finished, name)
        costs, reached = [cost(record) for record in own], [record.value or 0.0 for record in own]
        series.append(Series(name, costs, reached, "dots", colour, labels=[trial_label(record) for record in own]))
    rules = _baseline_rules(study)
    known = [*(record.value or 0.0 for record in finished), *(rule.at for rule in rules)]
    log = is_steep(known)
    return Panel(
        f"cost so far, in {unit}",
        study.config.monitor,
        [each for each in series if each.x],
        rules=rules,
        y_log=log,
        y_range=room_for(known, log=log),
        x_from_zero=True,
    )


def improvement_rows(study: FrozenStudy) -> list[dict[str, object]]:
    """Return a row for each improvement of the best value, with its cost in trainings and in seconds."""
    rows: list[dict[str, object]] = []
    best: float | None = None
    for record in _by_cost(study.records):
        if best is None or is_better(record.value, best, study.config.mode):
            best = record.value
            trainings = (record.steps_spent or 0) / study.total_steps
            rows.append(
                {
                    "trainings": trainings,
                    "seconds": record.seconds_spent,
                    f"best {study.config.monitor}": best,
                    "trial": record.number,
                    "step over the baseline's": cost_ratio(study, record),
                }
            )
    return rows


def equal_cost(study: FrozenStudy) -> Chart | None:
    """Draw the best value of each optimizer over its cost; None if fewer than two finished a training."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    costs: dict[str, float] = {}
    for name in optimizer_colours(study):
        own = trials_of(study.records, name)
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
    series += [Series(name, x[:-1], y[:-1], "dots", colours[name]) for name, (x, y) in lines.items()]
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
        "The best value of each optimizer over the cost of its trials, including stopped ones. Compare them at the "
        "vertical line: only some optimizers received more. One seed each; `opttune confirm` tests whether a "
        "difference is more than noise.",
        [panel],
    )


def equal_cost_rows(study: FrozenStudy) -> list[dict[str, object]]:
    """Return a row for each optimizer: trials, cost, best value, and its value at a cost that all have reached."""
    chart = equal_cost(study)
    if chart is None:
        return []
    (panel,) = chart.panels
    at = panel.rules[0].at
    rows = []
    for series in (each for each in panel.series if each.style == "steps"):
        reached = [y for x, y in zip(series.x, series.y, strict=True) if x <= at + 1e-9]
        rows.append(
            {
                "optimizer": series.name,
                "trials": len(trials_of(study.records, series.name)),
                "trainings": series.x[-1],
                "best": series.y[-1],
                f"at {at:.1f} trainings": reached[-1] if reached else None,
            }
        )
    return rows


def value_over_lr(study: FrozenStudy) -> Chart | None:
    """Draw each optimizer's values over its learning rates; None if no trial has a value or a rate."""
    rules = _baseline_rules(study)
    known = [*(record.value for record in study.records if record.value is not None), *(rule.at for rule in rules)]
    if len(known) == len(rules):
        return None
    log = is_steep(known)
    y_range = room_for(known, log=log)
    panels = [
        Panel(
            "x of own rate" if _is_own(name) else "peak learning rate",
            study.config.monitor,
            _over_lr(trials_of(study.records, name), name, colour, y_range[1]),
            title=name,
            rules=rules,
            x_log=True,
            y_log=log,
            y_range=y_range,
        )
        for name, colour in optimizer_colours(study).items()
    ]
    panels = [panel for panel in panels if panel.series]
    if not panels:
        # several optimizers have several rates
        return None
    return Chart(
        "value_over_lr",
        "Value over the learning rate, for each optimizer",
        "Dots ran the full length. Crosses at the top diverged. Rings were left behind at a rung: they show the value "
        "there, up to the top of the chart. The other fields of the recipes differ as well.",
        panels,
    )


def value_over_groups(study: FrozenStudy) -> Chart | None:
    """Draw the values over each number that varied in the parameter groups; None if none did."""
    varied = [(name, field) for name, field in study.space.group_fields if isinstance(field, Range)]
    points = {name: _over_group(study, name) for name, _ in varied}
    known = [value for series in points.values() for each in series for value in each.y if not isinstance(value, str)]
    rules = _baseline_rules(study)
    known += [rule.at for rule in rules if known]
    if not known:
        return None
    log = is_steep(known)
    panels = [
        Panel(
            _axis_words(study.space, name),
            study.config.monitor,
            points[name],
            title=name,
            rules=rules,
            x_log=field.scale == "log",
            y_log=log,
            y_range=room_for(known, log=log),
        )
        for name, field in varied
        if points[name]
    ]
    return Chart(
        "value_over_groups",
        "Value over the rates of the parameter groups",
        "Each dot ran the full length. At 1 the parameters have the same rate as the others. The learning rate and the "
        "other fields differ as well.",
        panels,
    )


def _over_group(study: FrozenStudy, name: str) -> list[Series]:
    """Return the finished trials of each optimizer over a field of the groups, of those that have it."""
    found = []
    for optimizer, colour in optimizer_colours(study).items():
        finished = [r for r in trials_of(study.records, optimizer) if r.value is not None and r.recipe is not None]
        values = [(r.recipe.groups.flat()[name], r) for r in finished if r.recipe is not None]
        dots = [(float(x), r.value or 0.0, trial_label(r)) for x, r in values if isinstance(x, int | float)]
        if dots:
            x, y, labels = zip(*dots, strict=True)
            found.append(Series(optimizer, x, y, "dots", colour, labels=labels))
    return found


def _axis_words(space: Space, name: str) -> str:
    index, attribute = space.groups.rule_fields.get(name, (-1, ""))
    if index < 0:
        return {
            "layer_decay": "rate of each layer as a share of the rate of the layer above",
            "lora_plus_ratio": "rate of LoRA's B matrices as a multiple of the other rates",
        }.get(name, name)
    what = "rate" if attribute == "lr_mult" else "weight decay"
    return f"{what} of {space.groups.rules[index].match} as a multiple of the others'"


def verdict_chart(study: FrozenStudy) -> Chart | None:
    """Draw the values of each candidate on the seeds of the verdict; None if there is none."""
    verdict = study_verdict(study)
    if verdict is None:
        return None
    spreads = {each.candidate.label: each.spread for each in verdict.results if each.spread is not None}
    values = [
        (value, each.candidate.label, f"seed {seed}")
        for each in verdict.results
        for seed, value in each.values.items()
        if value is not None
    ]
    x, y, labels = zip(*values, strict=True)
    rows, means = list(spreads), [spread.mean for spread in spreads.values()]
    ends = [
        (spread.mean - (spread.half_width or 0.0), spread.mean + (spread.half_width or 0.0))
        for spread in spreads.values()
    ]
    low, high = zip(*ends, strict=True)
    name = "mean and its 95% interval"
    panel = Panel(
        study.config.monitor,
        "",
        [
            Series("one seed", x, y, "rings", GREY, labels=labels),
            Series(name, means, rows, "dots", INK),
            Series(name, high, rows, "spans", INK, width=2.0, x_from=low),
        ],
        rows=rows,
    )
    return Chart(
        "verdict",
        f"The verdict: {len(verdict.seeds)} new seeds each",
        f"{verdict.sentences[0]}. The comparison is by seed, so overlapping intervals may still mean a difference.",
        [panel],
    )


def _by_cost(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    finished = [record for record in records if record.value is not None and record.steps_spent is not None]
    return sorted(finished, key=lambda record: record.steps_spent or 0)


def _baseline_rules(study: FrozenStudy) -> list[Rule]:
    value = baseline_value(study)
    return [] if value is None else [Rule(value, "baseline")]


def _best_so_far(points: Sequence[tuple[float, float]], mode: str) -> tuple[list[float], list[float]]:
    x: list[float] = []
    y: list[float] = []
    for cost, value in points:
        if not y or is_better(value, y[-1], mode):
            x.append(cost)
            y.append(value)
    return x, y


def _over_lr(records: Sequence[TrialRecord], name: str, colour: str, top: float) -> list[Series]:
    """Return one optimizer's trials by their end; trials without a value on the axis are drawn at its top."""
    kinds: list[tuple[str, Style, str, Callable[[TrialRecord], bool]]] = [
        (name, "dots", colour, lambda record: record.value is not None),
        ("left behind at a rung", "rings", GREY, lambda record: record.value is None and _at_rung(record) is not None),
        ("diverged", "crosses", RED, has_diverged),
    ]
    found = []
    for kind, style, own_colour, belongs in kinds:
        points = [(lr, _height(r, top), trial_label(r)) for r in records if belongs(r) and (lr := _lr(r)) > 0]
        if points:
            x, y, labels = zip(*points, strict=True)
            found.append(Series(kind, x, y, style, own_colour, labels=labels))
    return found


def _height(record: TrialRecord, top: float) -> float:
    value = record.value if record.value is not None else _at_rung(record)
    return top if value is None or not isfinite(value) else min(value, top)


def _at_rung(record: TrialRecord) -> float | None:
    return record.pauses[-1].value if record.pauses and not has_diverged(record) else None


def _lr(record: TrialRecord) -> float:
    """Return a trial's learning rate, or the factor on the module's own; 0 if it has several or none."""
    if record.recipe is None:
        return 0.0
    optimizer = record.recipe.optimizer
    lr = optimizer.get("lr_factor", 1.0) if _is_own(optimizer.name) else optimizer.get("lr")
    return float(lr) if isinstance(lr, int | float) else 0.0


def _is_own(name: str) -> bool:
    return name == OWN
