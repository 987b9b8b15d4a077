import pytest

from opttune.report.progress import best_over_cost, equal_cost, equal_cost_rows
from tests.support.records import RECORDS, full_study, record, stored


def test_the_line_is_the_best_so_far_over_what_the_whole_search_had_spent() -> None:
    chart = best_over_cost(full_study())
    assert chart is not None
    (panel,) = chart.panels
    line = panel.series[0]

    assert list(line.y) == [0.5, 0.3, 0.0001, 0.0001]
    # in full trainings of 100 steps; the last stands where the search ended
    assert list(line.x) == [1.0, 2.0, 4.0, 4.2]
    assert [(rule.at, rule.label) for rule in panel.rules] == [(2.5, "as it came")]
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
