"""The measure of `benchmarks/step_costs.py`, on a clock that the optimizers move."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.catalog.recorded_costs import read_costs, write_costs
from opttune.errors import MissingExtraError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    sys.path.insert(0, str(BENCHMARKS))
    import step_costs

    yield step_costs
    sys.path.remove(str(BENCHMARKS))


class Machine:
    """Steps that take their time on a clock; in each round the machine is slower."""

    def __init__(self) -> None:
        self.now, self.slower = 0.0, 1.0
        self.made: dict[str, Steps] = {}

    def clock(self) -> float:
        return self.now

    def make(self, name: str, size: Any, device: str) -> Any:
        if name == "adamw_8bit":
            raise MissingExtraError("not there")
        seconds, peak = {"none": (0.08, 20), "adamw": (0.1, 40), "soap": (0.3, 100), "shampoo": (9.0, 80)}[name]
        self.made[name] = Steps(self, seconds, peak)
        return self.made[name]


class Steps:
    parameters = 100

    def __init__(self, machine: Machine, seconds: float, peak: int) -> None:
        self.machine, self.seconds, self.peak, self.counts = machine, seconds, peak, list[int]()

    def peak_bytes(self, count: int) -> int:
        return self.peak

    def steps(self, count: int) -> None:
        self.counts.append(count)
        self.machine.now += count * self.seconds * self.machine.slower
        self.machine.slower *= 1.01


def measured(bench: Any, *names: str, machine: Any = None) -> Any:
    machine = machine or Machine()
    return bench.measure("cpu", names, bench.Size(16, 2, rounds=5), machine.make, machine.clock)


def test_a_cost_is_that_of_steps_right_after_adamws(bench: Any) -> None:
    table = measured(bench, "adamw", "soap", "adamw_8bit")
    soap = table.costs["soap"]

    # the machine has become slower by 1% between the two, in each round
    assert soap.ratio == pytest.approx(3.03, abs=0.001)
    assert (soap.low, soap.high) == (soap.ratio, soap.ratio)
    assert soap.memory == 2.5
    assert table.costs["adamw"].ratio == pytest.approx(1.01, abs=0.001)
    assert table.bare == pytest.approx(0.808, abs=0.001)
    assert table.left_out == {"adamw_8bit": "opttune[8bit] was not installed"}
    assert "one thread" in table.about


def test_of_long_steps_there_are_few(bench: Any) -> None:
    machine = Machine()
    table = measured(bench, "soap", "shampoo", machine=machine)

    # two to warm up, and in each of five rounds; the others do 30 and 10
    assert machine.made["shampoo"].counts == [1, 1, 0, *[2] * 5]
    assert machine.made["soap"].counts == [1, 1, 28, *[10] * 5]
    assert table.costs["shampoo"].ratio == pytest.approx(90.9, abs=0.1)


def test_some_measured_anew_join_the_others_of_the_same_machine_alone(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    first = measured(bench, "adamw", "adamw_8bit")
    write_costs(path, first)
    joined = bench.merged(measured(bench, "soap"), path)

    assert list(joined.costs) == ["adamw", "soap"]
    assert joined.left_out == first.left_out
    write_costs(path, replace(first, about="another machine"))
    with pytest.raises(SystemExit, match="another machine"):
        bench.merged(measured(bench, "soap"), path)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("name", ["none", "adamw", "sophia", "schedule_free_adamw", "adam_mini"])
def test_what_is_measured_trains(bench: Any, name: str) -> None:
    training = bench.Training(name, bench.Size(16, 2, rounds=1), "cpu")
    before = [one.detach().clone() for one in training.model.parameters()]
    training.steps(3)
    moved = [bool((one != was).any()) for one, was in zip(training.model.parameters(), before, strict=True)]

    assert training.parameters == sum(one.numel() for one in before)
    assert (not any(moved)) if name == "none" else all(moved)


def test_the_peak_counts_weights_gradients_and_the_states_of_the_optimizer(bench: Any) -> None:
    small = bench.Size(16, 2, rounds=1)
    sgd, adamw = bench.Training("sgd", small, "cpu"), bench.Training("adamw", small, "cpu")
    for training in (sgd, adamw):
        training.steps(1)

    weights = 4 * sgd.parameters
    assert sgd.peak_bytes(2) > 2 * weights
    # its two moments have the size of the weights each
    assert adamw.peak_bytes(2) - sgd.peak_bytes(2) == pytest.approx(2 * weights, rel=0.2)


def test_the_command_writes_what_it_shows(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "costs.json"
    monkeypatch.setattr(bench, "SIZES", {"cpu": bench.Size(16, 2, rounds=1, warm_up=1, block=1)})
    monkeypatch.setattr(sys, "argv", ["step_costs.py", "--only", "sgd", "--out", str(path)])
    bench.main()
    (table,) = read_costs(path)

    assert list(json.loads(path.read_text())) == ["cpu"]
    assert list(table.costs) == ["sgd"]
    assert table.cost_words("sgd") in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["step_costs.py", "--only", "sgdd"])
    with pytest.raises(SystemExit) as raised:
        bench.main()
    assert raised.value.code == 2
