from dataclasses import replace

import pytest

from opttune.recipe import Part, Recipe
from opttune.report.chart import Series
from opttune.report.values import best_over_cost, equal_cost, equal_cost_rows, value_over_lr, verdict_chart
from tests.support.records import RECORDS, confirmed_study, full_study, record, stored


def test_the_line_is_the_best_so_far_over_what_the_whole_search_had_spent() -> None:
    chart = best_over_cost(full_study())
    assert chart is not None
    (panel,) = chart.panels
    line = panel.series[0]

    assert list(line.y) == [0.5, 0.3, 0.0001, 0.0001]
    # in full trainings of 100 steps; the last point is the end of the search
    assert list(line.x) == [1.0, 2.0, 4.0, 4.2]
    assert [(rule.at, rule.label) for rule in panel.rules] == [(2.5, "baseline")]
    assert panel.y_log


def test_of_a_metric_that_is_to_rise_the_best_is_the_highest() -> None:
    chart = best_over_cost(stored([record(0, 0.2), record(1, 0.1), record(2, 0.9)], mode="max"))
    assert chart is not None

    assert list(chart.panels[0].series[0].y) == [0.2, 0.9, 0.9]


def test_an_optimizers_cost_counts_its_stopped_trials() -> None:
    rows = {row["optimizer"]: row for row in equal_cost_rows(full_study())}

    # 100 steps, 7 that diverged, 3 that failed and 10 up to a rung
    assert rows["adamw"]["trainings"] == pytest.approx(1.2)
    assert rows["muon"]["trainings"] == pytest.approx(2.0)
    assert rows["muon"]["best"] == 0.0001
    # at the 1.2 trainings that both have spent
    assert rows["muon"]["at 1.2 trainings"] == 0.3
    assert rows["adamw"]["at 1.2 trainings"] == 0.5


def test_where_there_is_nothing_to_compare_there_is_no_chart() -> None:
    assert equal_cost(stored([record(0, 0.5)])) is None
    assert equal_cost_rows(stored([])) == []
    assert best_over_cost(stored([RECORDS[2]])) is None


def series_of(title: str) -> dict[str, Series]:
    chart = value_over_lr(full_study())
    assert chart is not None
    (panel,) = (panel for panel in chart.panels if panel.title == title)
    assert panel.x_log
    assert panel.y_range is not None
    return {series.name: series for series in panel.series}


def test_each_optimizer_has_its_panel_with_its_values_over_its_rates() -> None:
    muon = series_of("muon")

    assert list(muon) == ["muon"]
    assert sorted(zip(muon["muon"].x, muon["muon"].y, strict=True)) == [(2e-2, 0.3), (5e-2, 0.0001)]


def test_diverged_trials_are_at_the_top_and_trials_left_behind_at_their_rung() -> None:
    chart = value_over_lr(full_study())
    assert chart is not None
    top = (chart.panels[0].y_range or (0, 0))[1]
    adamw = series_of("adamw")

    assert (list(adamw["diverged"].x), list(adamw["diverged"].y)) == ([1.0], [top])
    assert (list(adamw["left behind at a rung"].x), list(adamw["left behind at a rung"].y)) == ([1e-4], [3.0])


def test_without_a_value_there_is_no_bowl() -> None:
    assert value_over_lr(stored([RECORDS[2]])) is None


def test_factors_on_the_modules_own_rate_have_a_panel_of_their_own() -> None:
    factors = [{"lr_factor": 10.0}, {"lr_factor": 0.1}, {}]
    own = [
        replace(record(number, 0.5 + number), recipe=Recipe(Part("own", given), Part("own")))
        for number, given in enumerate(factors)
    ]
    chart = value_over_lr(stored([*own, record(3, 0.4)]))
    assert chart is not None
    panels = {panel.title: panel for panel in chart.panels}

    assert [panels[name].x_label for name in ("own", "adamw")] == ["x of own rate", "peak learning rate"]
    (series,) = panels["own"].series
    assert list(zip(series.x, series.y, strict=True)) == [(10.0, 0.5), (0.1, 1.5), (1.0, 2.5)]


def test_trials_with_several_rates_alone_give_no_empty_chart() -> None:
    several = Recipe.from_dict({"optimizers": ["own", {"name": "own", "lr_factor": 2.0}]})

    assert value_over_lr(stored([replace(record(0, 0.5), recipe=several)])) is None


def test_each_candidate_has_a_row_with_its_values_and_its_mean() -> None:
    chart = verdict_chart(confirmed_study())
    assert chart is not None
    (panel,) = chart.panels
    values, means, intervals = panel.series

    assert list(panel.rows) == ["muon 5e-2", "muon 2e-2", "your optimizer", "AdamW's default"]
    assert len(values.x) == 12
    assert means.x[0] == pytest.approx(0.02)
    assert all(low < mean < high for low, mean, high in zip(intervals.x_from, means.x, intervals.x, strict=True))


def test_before_a_verdict_there_is_no_chart() -> None:
    assert verdict_chart(full_study()) is None
