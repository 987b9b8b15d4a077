import optuna
import pytest

from opttune.report.importance import field_importances


def make(count: int, mode: str = "min") -> optuna.Study:
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
    found = field_importances(make(40, mode), mode)

    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.5
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_of_few_trials_or_of_equal_values_nothing_is_said() -> None:
    assert field_importances(make(4), "min") == {}
    study = optuna.create_study()
    for _ in range(10):
        study.add_trial(
            optuna.trial.create_trial(
                params={"lr": 0.5}, distributions={"lr": optuna.distributions.FloatDistribution(0, 1)}, value=1.0
            )
        )
    assert field_importances(study, "min") == {}
