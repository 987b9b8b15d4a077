"""What the benchmarks of a learning-rate probe and of repeats read off their records."""

import importlib
import sys
from collections.abc import Iterator
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RAMP = np.geomspace(1e-4, 1.0, 41).tolist()


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Import a module of the benchmarks by its name."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


def probed(bench: Any, losses: list[float], **changes: Any) -> Any:
    fields = {"task": "cnn", "optimizer": "adamw", "prior": 1e-2, "rates": [1e-3, 1e-2, 1e-1], "ramp": RAMP}
    return bench("lr_probe").Probed(**{**fields, "values": [2.0, 1.0, inf], "losses": losses, **changes})


def valley(turn: int) -> list[float]:
    """Falls to its lowest at a step and rises far after it."""
    return [3.0 - 2.0 * step / turn if step <= turn else 1.0 + step - turn for step in range(len(RAMP))]


def test_the_sweep_says_which_rate_is_best(bench: Any) -> None:
    one = probed(bench, valley(20))

    assert one.best == 1e-2
    assert one.value_at(2e-2) == 1.0
    assert one.value_at(5e-2) == inf


def test_the_lowest_loss_and_the_edge_are_found_where_they_are(bench: Any) -> None:
    probe, one = bench("lr_probe"), probed(bench, valley(20))

    # smoothing comes late by a few steps
    assert RAMP[20] <= probe.lowest(one) <= RAMP[24]
    assert RAMP[22] <= probe.edge(one) <= RAMP[28]
    assert probe.steepest(one) <= RAMP[21]


def test_a_probe_that_ended_in_nan_is_read_up_to_there(bench: Any) -> None:
    one = probed(bench, [*valley(20)[:15], *[nan] * 26])

    assert len(one.smoothed) == 15
    assert bench("lr_probe").lowest(one) == bench("lr_probe").edge(one) == RAMP[14]


def test_a_rules_factor_is_fitted_on_the_tasks_for_development_alone(bench: Any) -> None:
    develop = probed(bench, valley(20), task="mlp", values=[1.0, 2.0, 3.0])
    report = bench("lr_probe").write_report([develop, probed(bench, valley(20)), probed(bench, valley(10))])
    lowest = bench("lr_probe").lowest(develop)

    assert f"lowest x {1e-3 / lowest:.2g} " in report


def test_regret_is_measured_on_seeds_that_the_strategy_has_not_seen(bench: Any) -> None:
    repeats = bench("repeats")
    found = repeats.Candidates("mlp", 0, found=[1.0, 1.2], again=[[3.0, 3.0, 3.0], [1.5, 1.5, 1.5]])

    assert list(repeats.regrets(found, top=1, repeats=0)) == [1.0]
    assert list(repeats.regrets(found, top=2, repeats=1)) == [0.0, 0.0, 0.0]


def test_luck_on_the_second_seed_can_mislead_as_well(bench: Any) -> None:
    repeats = bench("repeats")
    found = repeats.Candidates("mlp", 0, found=[1.0, 1.0], again=[[0.5, 3.0, 3.0], [1.0, 1.0, 1.0]])

    assert list(repeats.regrets(found, top=2, repeats=1)) == [2.0, 0.0, 0.0]
