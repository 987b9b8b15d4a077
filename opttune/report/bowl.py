"""The chart of learning rates: the value against the rate, a panel for each optimizer."""

from collections.abc import Callable, Sequence
from math import isfinite

from opttune.report.chart import GREY, RED, Chart, Panel, Rule, Series, Style, is_steep, room_for
from opttune.report.colours import optimizer_colours, shown_recipe
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord

_Kind = tuple[str, Style, str, Callable[[TrialRecord], bool]]


def value_over_lr(study: FrozenStudy) -> Chart | None:
    """Draw each optimizer's values over its learning rates; None where no trial has a value."""
    values = [record.value for record in study.records if record.value is not None]
    if not values:
        return None
    baseline = study.baseline.value if study.baseline is not None else None
    known = [*values, *([baseline] if baseline is not None else [])]
    log = is_steep(known)
    y_range = room_for(known, log=log)
    panels = [
        Panel(
            "peak learning rate",
            study.config.monitor,
            _series([r for r in study.records if r.recipe and r.recipe.optimizer.name == name], colour, y_range),
            title=name,
            rules=[Rule(baseline, "as it came")] if baseline is not None else [],
            x_log=True,
            y_log=log,
            y_range=y_range,
        )
        for name, colour in optimizer_colours(study).items()
    ]
    return Chart(
        "value_over_lr",
        "Value over the learning rate, for each optimizer",
        "Dots ran the full length. Crosses at the top diverged; rings were left behind at a rung, and stand at their "
        "value there, at most at the top. The other fields of the recipes differ as well.",
        [panel for panel in panels if panel.series],
    )


def _series(records: Sequence[TrialRecord], colour: str, y_range: tuple[float, float]) -> list[Series]:
    kinds: list[_Kind] = [
        ("full length", "dots", colour, lambda record: record.value is not None),
        ("left behind at a rung", "rings", GREY, lambda record: record.value is None and _at_rung(record) is not None),
        ("diverged", "crosses", RED, _has_diverged),
    ]
    found = []
    for name, style, own_colour, belongs in kinds:
        points = [(lr, _height(r, y_range[1]), shown_recipe(r)) for r in records if belongs(r) and (lr := _lr(r)) > 0]
        if points:
            x, y, labels = zip(*points, strict=True)
            found.append(Series(name, x, y, style, own_colour, labels=labels))
    return found


def _height(record: TrialRecord, top: float) -> float:
    value = record.value if record.value is not None else _at_rung(record)
    return top if value is None or not isfinite(value) else min(value, top)


def _at_rung(record: TrialRecord) -> float | None:
    return record.pauses[-1].value if record.pauses and not _has_diverged(record) else None


def _has_diverged(record: TrialRecord) -> bool:
    return record.outcome is not None and record.outcome.reason.is_divergence


def _lr(record: TrialRecord) -> float:
    lr = record.recipe.optimizer.get("lr") if record.recipe else None
    return float(lr) if isinstance(lr, int | float) else 0.0
