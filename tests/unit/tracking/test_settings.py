import pytest

from opttune.tracking import Tracking


def test_the_usual():
    assert Tracking() == Tracking(thin=True, log_model=False, log_data=False, system_metrics=None, report=True)


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        *[(None, None, False), (None, "true", True), (None, "1", True), (None, "false", False)],
        *[(False, "true", False), (True, None, True)],
    ],
)
def test_the_load_of_the_machine_follows_mlflows_own_variable(monkeypatch, given, environment, expected):
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    if environment is not None:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", environment)
    assert Tracking(system_metrics=given).reads_machine is expected
