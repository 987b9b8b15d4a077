"""The charts of trainings: learning curves with their pauses and stops, and the halving of rungs."""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite

from opttune.report.chart import GREEN, GREY, INK, RED, Chart, Panel, Rule, Series, is_steep, room_for
from opttune.report.trials import how_it_ended, optimizer_colours, trial_label
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord

Curve = Sequence[tuple[int, float]]
Curves = Mapping[int, Mapping[str, Curve]]
"""Number of a trial -> name of a metric -> points."""

LOSS = "train/loss"
_MOST_CURVES, _MOST_POINTS = 25, 300
_SMOOTHED_OVER = 0.02
_HIGHEST = 0.9
"""Curves are drawn up to this share of all points, and at least to the median first value."""

_ENDS = {
    "finished": (GREEN, "ran the full length"),
    "left behind": (GREY, "left behind at a rung"),
    "diverged": (RED, "diverged"),
    "failed": (INK, "failed"),
    "waits": ("#c9a400", "waits, or was interrupted"),
}


def learning_curves(study: FrozenStudy, curves: Curves) -> Chart | None:
    """Draw the monitored metric and the training loss over the steps; None if neither was recorded.

    Args:
        study: The search.
        curves: The curves in MLflow; a trial without one is drawn with its values at the rungs.
    """
    shown = _shown(study)
    monitored = {record.number: _monitored(study, record, curves) for record in shown}
    losses = {record.number: _smooth(curves.get(record.number, {}).get(LOSS, ())) for record in shown}
    drawn = [
        _panel(study, shown, monitored, study.config.monitor),
        _panel(study, shown, losses, f"{LOSS}, mean over {_SMOOTHED_OVER:.0%} of the steps"),
    ]
    panels = [panel for panel in drawn if panel is not None]
    if not panels:
        return None
    left_out = len(study.records) - len(shown)
    more = f" The {left_out} trials with the worst values are left out." if left_out else ""
    return Chart(
        "learning_curves",
        "Learning curves",
        f"The best trial is the thick line. Squares: paused there. Triangles: left behind. Crosses: diverged.{more}",
        panels,
    )


def halving(study: FrozenStudy) -> Chart | None:
    """Draw the trained length of each trial; None if no trial has started."""
    begun = [record for record in study.records if record.last is not None]
    if not begun:
        return None
    series = []
    for kind, (colour, name) in _ENDS.items():
        own = [record for record in begun if how_it_ended(record) == kind]
        if not own:
            continue
        ends = [record.steps / study.total_steps for record in own]
        numbers = [float(record.number) for record in own]
        labels = [trial_label(record) for record in own]
        series.append(Series(name, ends, numbers, "dots", colour, labels=labels))
        series.append(Series(name, ends, numbers, "spans", colour, labels=labels, width=2.0, opacity=0.6))
    rungs = study.config.rungs(study.total_steps)[:-1]
    rules = [Rule(step / study.total_steps, f"rung {step:,}", is_upright=True) for step in rungs]
    panel = Panel(f"share of the full length of {study.total_steps:,} steps", "trial", series, rules=rules)
    return Chart(
        "halving",
        "How far each trial was trained",
        "At a rung the search compares the trials, and pauses those that are not among the better ones.",
        [panel],
    )


def _shown(study: FrozenStudy) -> list[TrialRecord]:
    sign = 1 if study.config.mode == "min" else -1
    begun = [record for record in study.records if record.recipe is not None]

    def rank(record: TrialRecord) -> tuple[bool, float, int]:
        last = record.last.value if record.last else None
        return (record.value is None, sign * (last if last is not None else 0.0), record.number)

    return sorted(begun, key=rank)[:_MOST_CURVES]


def _monitored(study: FrozenStudy, record: TrialRecord, curves: Curves) -> Curve:
    logged = curves.get(record.number, {}).get(study.config.monitor)
    if logged:
        return logged
    values = [(pause.steps, pause.value) for pause in record.pauses]
    values += [(record.steps, record.value)] if record.value is not None else []
    return [(step, value) for step, value in values if value is not None]


def _panel(study: FrozenStudy, shown: Sequence[TrialRecord], curves: Mapping[int, Curve], y_label: str) -> Panel | None:
    points = [value for curve in curves.values() for _, value in curve if isfinite(value)]
    if not points:
        return None
    # for a metric to maximize, this would cut off the best
    is_cut = y_label != study.config.monitor or study.config.mode == "min"
    top = _top(list(curves.values()), points) if is_cut else room_for(points, log=False)[1]
    colours = optimizer_colours(study)
    series: list[Series] = []
    for record in reversed(shown):
        curve = [(step, value) for step, value in curves[record.number] if isfinite(value)]
        if not curve or record.recipe is None:
            continue
        name = record.recipe.optimizer.name
        is_best = study.best is not None and record.name == study.best.name
        series.append(_line(name, curve, colours[name], record, is_best=is_best))
        series += _marks(record, curve, top)
    log = is_steep([value for value in points if value <= top])
    return Panel("optimizer step", y_label, series, y_log=log, y_range=(_bottom(points, top, log=log), top))


def _line(name: str, curve: Curve, colour: str, record: TrialRecord, *, is_best: bool) -> Series:
    stride = ceil(len(curve) / _MOST_POINTS)
    steps, values = zip(*(*curve[:-1:stride], curve[-1]), strict=True)
    labels = [trial_label(record)]
    width, opacity = (3.0, 1.0) if is_best else (1.1, 0.65)
    return Series(name, steps, values, "line", colour, labels=labels, width=width, opacity=opacity)


def _marks(record: TrialRecord, curve: Curve, top: float) -> list[Series]:
    """Return the marks of a curve: its pauses, and an early stop."""
    label = [trial_label(record)]
    end = how_it_ended(record)
    pauses = record.pauses if end != "left behind" else record.pauses[:-1]
    paused = [pause.steps for pause in pauses]
    marks = [Series("paused", [step], [min(_at(curve, step), top)], "squares", GREY, labels=label) for step in paused]
    last = min(curve[-1][1], top)
    if end == "diverged":
        marks.append(Series("diverged", [record.steps], [last], "crosses", RED, labels=label))
    elif end == "left behind":
        marks.append(Series("left behind", [record.steps], [last], "triangles", GREY, labels=label))
    return marks


def _at(curve: Curve, step: int) -> float:
    return min(curve, key=lambda point: abs(point[0] - step))[1]


def _top(curves: Sequence[Curve], points: Sequence[float]) -> float:
    """Return the upper end of the y axis, because a diverging loss would flatten all other curves."""
    finite = [[value for _, value in curve if isfinite(value)] for curve in curves]
    firsts = sorted(values[0] for values in finite if values)
    ordered = sorted(points)
    usual = ordered[min(len(ordered) - 1, int(_HIGHEST * len(ordered)))]
    return max(usual, firsts[len(firsts) // 2]) * (1.05 if usual > 0 else 0.95) or 1.0


def _bottom(points: Sequence[float], top: float, *, log: bool) -> float:
    low = min(points)
    return low * 0.9 if log else low - 0.05 * abs(top - low)


def _smooth(curve: Curve) -> Curve:
    """Return a curve's running mean; the first windows have fewer points."""
    finite = [(step, value) for step, value in curve if isfinite(value)]
    window = max(1, round(_SMOOTHED_OVER * len(finite)))
    smoothed = []
    for index, (step, _) in enumerate(finite):
        part = [value for _, value in finite[max(0, index + 1 - window) : index + 1]]
        smoothed.append((step, sum(part) / len(part)))
    return smoothed
