"""The settings of tracking, and which steps a long curve keeps."""

from itertools import pairwise

import pytest

from opttune.tracking.settings import Tracking
from opttune.tracking.thinning import Thinning


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


def kept(total: int | None, steps: int, most: int | None = 1000) -> list[int]:
    keep = Thinning(total, most).keep
    return [step for step in range(1, steps + 1) if keep(step)]


@pytest.mark.parametrize("total", [1, 999, 1000])
def test_a_short_run_is_kept_whole(total):
    assert len(kept(total, total)) == total


@pytest.mark.parametrize("total", [1001, 1500, 2500, 5000, 10_000])
def test_a_long_run_has_at_most_a_thousand_points(total):
    steps = kept(total, total)
    start = total // 20
    assert len(steps) <= 1000
    assert len(steps) >= 500
    assert steps[:start] == list(range(1, start + 1))
    assert steps[-1] == total


def test_the_rest_is_thinned_evenly():
    rest = [step for step in kept(10_000, 10_000) if step > 520]
    assert len({b - a for a, b in pairwise(rest)}) == 1


def test_the_start_of_a_very_long_run_stays_whole():
    steps = kept(100_000, 100_000)
    assert steps[:5000] == list(range(1, 5001))
    assert len(steps) <= 5500


def test_thinning_can_be_turned_off():
    assert len(kept(5000, 5000, most=None)) == 5000
    assert len(kept(None, 5000)) == 5000


def test_steps_beyond_the_full_length_do_no_harm():
    assert len(kept(2000, 2500)) < 1500
