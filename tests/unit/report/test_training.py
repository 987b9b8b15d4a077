import math

import pytest

from opttune.report.training import LOSS, halving, learning_curves
from tests.support.records import full_study, record, stored

CURVES = {
    1: {"val_loss": [(10, 1.9), (35, 0.9), (100, 0.3)], LOSS: [(step, 2.0 / step) for step in range(1, 1001)]},
    2: {LOSS: [(1, 2.0), (2, 50.0), (7, math.nan)]},
}


def test_curves_are_those_of_mlflow_and_else_the_values_at_the_rungs() -> None:
    chart = learning_curves(full_study(), CURVES)
    assert chart is not None
    values, losses = chart.panels
    lines = {tuple(series.x): tuple(series.y) for series in values.series if series.style == "line"}

    assert lines[(10, 35, 100)] in [(1.9, 0.9, 0.3), (2.0, 1.0, 0.5)]
    assert losses.y_label.startswith(LOSS)
    # a thousand points are too many for a page
    assert max(len(series.x) for series in losses.series) <= 302
    assert all(math.isfinite(value) for series in losses.series for value in series.y)


def test_pauses_stops_and_divergences_are_marked() -> None:
    chart = learning_curves(full_study(), CURVES)
    assert chart is not None
    marks = {series.style for panel in chart.panels for series in panel.series}

    assert {"line", "squares", "triangles", "crosses"} <= marks


def test_the_best_is_the_thick_line() -> None:
    chart = learning_curves(full_study(), {3: {"val_loss": [(50, 0.2), (100, 0.0001)]}, **CURVES})
    assert chart is not None
    thick = [series for series in chart.panels[0].series if series.width >= 3]

    assert [list(series.y) for series in thick] == [[0.2, 0.0001]]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_values_are_never_cut_off(mode: str) -> None:
    records = [record(number, number / 10) for number in range(1, 10)]
    curves = {one.number: {"val_loss": [(50, 0.01), (100, one.value or 0.0)]} for one in records}
    chart = learning_curves(stored(records, mode=mode), curves)
    assert chart is not None
    low, high = chart.panels[0].y_range or (0.0, 0.0)

    assert low < 0.1
    assert mode == "min" or high > 0.9


def test_the_rungs_show_how_far_each_trial_trained_and_why_no_further() -> None:
    chart = halving(full_study())
    assert chart is not None
    (panel,) = chart.panels
    ends = {
        series.name: dict(zip(series.y, series.x, strict=True)) for series in panel.series if series.style == "dots"
    }

    assert ends["ran the full length"] == {0.0: 1.0, 1.0: 1.0, 3.0: 1.0}
    assert ends["diverged"] == {2.0: 0.07}
    assert ends["left behind at a rung"] == {5.0: 0.1}
    assert ends["failed"] == {4.0: 0.03}
    assert [rule.label for rule in panel.rules] == ["rung 10", "rung 35"]


def test_before_anything_was_trained_there_are_no_charts() -> None:
    assert halving(stored([])) is None
    assert learning_curves(stored([]), {}) is None


def test_curves_that_begin_undefined_are_drawn() -> None:
    records = [record(number, number / 10) for number in (1, 2)]
    curves = {one.number: {"val_loss": [(10, math.nan), (50, 0.5), (100, one.value or 0.0)]} for one in records}
    chart = learning_curves(stored(records), curves)
    assert chart is not None
    low, high = chart.panels[0].y_range or (0.0, 0.0)

    assert low < 0.1 < 0.2 < high < 1
