"""The checks of `benchmarks/on_gpu.py` in small, and that each of them can fail."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from opttune.catalog import lookup
from opttune.catalog.lookup import find_optimizer, register_optimizer

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
NOT_ON_CPU = "not on cpu"

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def run_script(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "on_gpu.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The modules of the benchmark."""
    sys.path.insert(0, str(BENCHMARKS))
    import on_gpu
    from gpu_bench import models, resources, rows, training

    yield type("Bench", (), {"script": on_gpu, "models": models, "rows": rows, "on": training, "of": resources})
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def place(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return bench.rows.Place("cpu", tmp_path)


def failed(rows: Iterable[Any]) -> list[str]:
    return [row.what for row in rows if row.ok is False]


@pytest.mark.slow
def test_all_checks_pass_in_small_on_a_cpu(tmp_path: Path) -> None:
    done = run_script("--device", "cpu", "--json", "found.json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["rows"]

    assert {row["check"] for row in found} == set("abcdefghij")
    # nothing is said to be well that a CPU cannot show
    skipped = [row for row in found if row["ok"] is None]
    assert all(row["seen"] == NOT_ON_CPU for row in skipped)
    assert {row["check"] for row in skipped} >= set("acfij")
    trained = {row["what"] for row in found if row["check"] == "e"}
    assert trained >= {name for name in lookup.optimizer_names() if not find_optimizer(name).is_own}


def test_a_check_that_there_is_not_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", "--only", "a,z"])
    with pytest.raises(SystemExit) as raised:
        bench.script.main()

    assert raised.value.code == 2


def hangs(place: Any) -> Iterator[Any]:
    yield place.only_gpu("x", "before it hangs", "")
    time.sleep(600)


def dies(place: Any) -> list[Any]:
    os._exit(3)


def raises(place: Any) -> list[Any]:
    raise RuntimeError("no kernel image is available")


@pytest.mark.slow
def test_a_check_that_hangs_dies_or_raises_is_a_row_and_the_next_one_runs(bench: Any) -> None:
    check = bench.script.Check
    checks = {"x": check(hangs, "one", 1), "y": check(dies, "two", 30), "z": check(raises, "three", 30)}
    rows = [row for name in checks for row in bench.script.run_check(name, "cpu", checks)]

    assert [row.ok for row in rows] == [None, False, False, False]
    assert "not done after 10 s" in rows[1].seen
    assert "exit code 3" in rows[2].seen
    assert "no kernel image" in rows[3].seen


@pytest.mark.slow
def test_a_search_without_a_value_is_seen(bench: Any, place: Any) -> None:
    broken = ("broken", bench.models.maker(bench.models.NanAt, 2), bench.models.numbers, "32-true")

    assert failed(bench.on.searches(place, [broken])) == ["search, broken, 32-true"]


@pytest.mark.slow
def test_a_pause_that_changes_the_training_is_seen(bench: Any, place: Any) -> None:
    def train(attempt: Any, *rest: Any) -> Any:
        changed = replace(attempt, resume_from=None, seed=1) if attempt.resume_from else attempt
        return bench.on.run_attempt(changed, *rest)

    assert failed(bench.on.pauses(place, train)) == ["paused twice, deterministic kernels", "the same, any kernels"]


@pytest.mark.slow
def test_a_guard_that_stops_nothing_is_seen(bench: Any, place: Any) -> None:
    assert failed(bench.on.guard(place, lightning.Callback)) == ["guard, lr 1e3", "guard, NaN at step 7"]


class Busy(lightning.Callback):
    """Takes the processor for longer than the step."""

    def on_train_batch_end(self, *_: Any) -> None:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass


@pytest.mark.slow
def test_a_costly_callback_is_seen(bench: Any, place: Any) -> None:
    variants = {"busy": lambda place: ([Busy()], lambda: None)}

    assert failed(bench.on.overhead(place, variants)) == ["busy, 5 ms a step"]


class GivesNan(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.param_groups[0]["params"][0].fill_(float("nan"))
        return loss


def test_an_optimizer_that_does_not_train_is_seen(bench: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup._OPTIMIZERS, "rows", dict(lookup._OPTIMIZERS.rows))
    register_optimizer(replace(find_optimizer("sgd"), name="gives_nan", class_path=GivesNan))

    assert failed(bench.of.optimizers(place, ["sgd", "gives_nan"])) == ["gives_nan"]


def test_memory_that_did_not_run_out_is_seen(bench: Any, place: Any) -> None:
    assert failed(bench.of.out_of_memory(place, bench.models.Small)) == ["too large a training"]


KEPT: list[Any] = []


def test_memory_that_grows_is_seen(bench: Any, place: Any) -> None:
    def leaking() -> Any:
        KEPT.append(torch.ones(1 << 22))
        return bench.models.Small()

    rows = bench.of.flat_memory(place, leaking)
    KEPT.clear()

    assert failed(rows) == ["memory of the process over 12 trainings"]


def test_workers_that_do_not_train_or_have_wrong_devices_are_seen(bench: Any, place: Any) -> None:
    rows = bench.of.workers(
        place, run=lambda *_, **__: [], place_workers=lambda count, trainer: [{"CUDA_VISIBLE_DEVICES": "0"}] * count
    )

    assert failed(rows) == ["two workers at a time", "their devices"]


def test_a_trial_that_is_lost_with_its_worker_is_seen(bench: Any, place: Any) -> None:
    assert failed(bench.of.killed_worker(place, run=lambda *_, **__: [])) == ["a worker killed at step 6"]


@pytest.mark.slow
def test_a_machine_that_is_not_read_is_seen(bench: Any, place: Any) -> None:
    assert failed(bench.of.system_metrics(place, reads=False)) == ["--system-metrics, processors"]
