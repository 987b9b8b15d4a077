from opttune.report.bowl import value_over_lr
from opttune.report.chart import Series
from tests.support.records import RECORDS, full_study, stored


def series_of(title: str) -> dict[str, Series]:
    chart = value_over_lr(full_study())
    assert chart is not None
    (panel,) = (panel for panel in chart.panels if panel.title == title)
    assert panel.x_log
    assert panel.y_range is not None
    return {series.name: series for series in panel.series}


def test_each_optimizer_has_its_panel_with_its_values_over_its_rates() -> None:
    muon = series_of("muon")

    assert list(muon) == ["full length"]
    assert sorted(zip(muon["full length"].x, muon["full length"].y, strict=True)) == [(2e-2, 0.3), (5e-2, 0.0001)]


def test_what_diverged_stands_at_the_top_and_what_was_left_behind_at_its_rung() -> None:
    chart = value_over_lr(full_study())
    assert chart is not None
    top = (chart.panels[0].y_range or (0, 0))[1]
    adamw = series_of("adamw")

    assert (list(adamw["diverged"].x), list(adamw["diverged"].y)) == ([1.0], [top])
    assert (list(adamw["left behind at a rung"].x), list(adamw["left behind at a rung"].y)) == ([1e-4], [3.0])


def test_without_a_value_there_is_no_bowl() -> None:
    assert value_over_lr(stored([RECORDS[2]])) is None
