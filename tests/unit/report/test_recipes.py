import pytest

from opttune.report.recipes import importances, schedules
from tests.support.records import full_study, record, stored


def test_the_schedules_are_those_of_the_best_with_their_peak() -> None:
    chart = schedules(full_study())
    assert chart is not None
    names = [series.name for series in chart.panels[0].series]

    assert names == ["#3 muon, linear", "#1 muon, cosine", "#0 adamw, cosine"]
    best = chart.panels[0].series[0]
    assert max(best.y) == pytest.approx(5e-2)
    assert best.x[-1] == 99


def test_a_schedule_without_a_curve_is_left_out() -> None:
    assert schedules(stored([record(0, 0.5, schedule="plateau")])) is None


def test_importances_are_bars_the_longest_on_top() -> None:
    records = [record(n, abs(n - 7) + 0.1, lr=10 ** (n / 4 - 4), optimizer=("adamw", "muon")[n % 2]) for n in range(16)]
    chart = importances(stored(records))
    assert chart is not None
    (panel,) = chart.panels

    assert panel.rows[-1] == "lr"
    lengths = [series.x[0] for series in panel.series]
    assert lengths == sorted(lengths)
    assert sum(lengths) == pytest.approx(1, abs=0.02)
    assert "a hint at most" in chart.says


def test_of_few_trials_nothing_is_said() -> None:
    assert importances(full_study()) is None
