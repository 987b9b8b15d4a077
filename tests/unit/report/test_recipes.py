import optuna
import pytest

from opttune.report.recipes import field_importances, importances, schedules
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

    assert panel.rows[0] == "lr"
    lengths = [series.x[0] for series in panel.series]
    assert lengths == sorted(lengths, reverse=True)
    assert sum(lengths) == pytest.approx(1, abs=0.02)
    assert "only a hint" in chart.says


def test_of_few_trials_nothing_is_said() -> None:
    assert importances(full_study()) is None


def make_study(count: int, mode: str = "min") -> optuna.Study:
    """The value is that of `lr` alone, and `momentum` is of one optimizer only."""
    study = optuna.create_study(direction=f"{mode}imize")
    sign = 1 if mode == "min" else -1
    for number in range(count):
        has_momentum = number % 2 == 0
        lr = (number * 7 % count) / count
        parameters: dict[str, object] = {"lr": lr, "optimizer": "sgd" if has_momentum else "adamw"}
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            "lr": optuna.distributions.FloatDistribution(0, 1),
            "optimizer": optuna.distributions.CategoricalDistribution(["adamw", "sgd"]),
        }
        if has_momentum:
            parameters["momentum"] = (number * 3 % count) / count
            distributions["momentum"] = optuna.distributions.FloatDistribution(0, 1)
        study.add_trial(
            optuna.trial.create_trial(params=parameters, distributions=distributions, value=sign * (lr - 0.3) ** 2)
        )
    return study


@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_sets_the_value_matters_most(mode: str) -> None:
    found = field_importances(make_study(40, mode), mode)

    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.5
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_of_few_trials_or_of_equal_values_nothing_is_said() -> None:
    assert field_importances(make_study(4), "min") == {}
    study = optuna.create_study()
    for _ in range(10):
        study.add_trial(
            optuna.trial.create_trial(
                params={"lr": 0.5}, distributions={"lr": optuna.distributions.FloatDistribution(0, 1)}, value=1.0
            )
        )
    assert field_importances(study, "min") == {}
