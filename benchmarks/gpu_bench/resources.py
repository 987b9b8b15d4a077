"""Checks (e) to (j): optimizers, memory, workers, and the machine's load."""

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from math import isfinite
from typing import Any

import torch
from mlflow.tracking import MlflowClient

import opttune
from gpu_bench import models
from gpu_bench.rows import NOT_ON_CPU, Place, Row, allocated
from opttune.catalog.lookup import find_optimizer, optimizer_names
from opttune.engines.devices import devices_per_trial, share_devices, visible_devices, worker_environments
from opttune.engines.inline import train_here
from opttune.engines.memory import rss_bytes
from opttune.engines.start import start_engine
from opttune.errors import MissingExtraError
from opttune.recipe import Part, Recipe
from opttune.tracking.settings import Tracking
from opttune.training.attempt import Attempt, NullListener
from opttune.training.stop import NEVER
from opttune.training.workload import Workload

MEGABYTE = 1 << 20
PLAIN = Recipe(Part("adamw", {"lr": 1e-3}))


def _train(place: Place, recipe: Recipe, model: models.Factory, steps: int) -> Any:
    workload = Workload(model, models.numbers)
    attempt = Attempt(recipe, "val_loss", 0, {**place.trainer, "max_steps": steps})
    return train_here(workload)(attempt, NullListener())


def optimizers(place: Place, names: Sequence[str] = ()) -> Iterator[Row]:
    """(e) Every optimizer of the catalog trains; its step and its memory over AdamW's."""
    steps, model = place.size(21, 12), models.maker(models.Small, place.size(2048, 32))
    others = [name for name in names or optimizer_names() if not find_optimizer(name).is_own]
    measured: dict[str, tuple[float, float]] = {}
    for name in dict.fromkeys(("adamw", *others)):
        if place.is_gpu:
            gc.collect()
            torch.cuda.reset_peak_memory_stats()
        try:
            outcome = _train(place, Recipe(Part(name)), model, steps)
        except MissingExtraError as err:
            yield Row("e", name, f"{steps} steps", str(err)[:120], False)
            continue
        peak = float(torch.cuda.max_memory_allocated()) if place.is_gpu else 0.0
        measured[name] = (outcome.step_seconds or 0.0, peak)
        (seconds, memory), (least, usual) = measured[name], measured["adamw"]
        ratios = {"step": seconds / least if least else 0.0, "memory": memory / usual if usual else 0.0}
        seen = f"{outcome.reason}, {ratios['step']:.2f} x AdamW's step ({1000 * seconds:.2f} ms)"
        seen += f", {ratios['memory']:.2f} x its memory" if place.is_gpu else f", memory {NOT_ON_CPU}"
        is_ok = outcome.steps == steps and outcome.value is not None and isfinite(outcome.value)
        yield Row("e", name, f"{steps} steps, a value", seen + f" {outcome.message[:80]}", is_ok, ratios)
    yield _fused(place)


def _fused(place: Place) -> Row:
    """Return whether a recipe's AdamW is fused on the GPU, and what a step of each implementation takes."""
    what, expected = "adamw, fused against foreach", "a recipe trains with the fastest"
    if not place.is_gpu:
        return place.only_gpu("e", what, expected)
    seconds = {}
    for name in ("foreach", "fused"):
        weights = [torch.nn.Parameter(torch.randn(512, 512, device="cuda")) for _ in range(100)]
        optimizer = torch.optim.AdamW(weights, lr=1e-3, **{name: True})
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        for count in (5, 50):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(count):
                optimizer.step()
            torch.cuda.synchronize()
            seconds[name] = (time.perf_counter() - began) / count
    seen = ", ".join(f"{name} {1e6 * taken:.0f} us" for name, taken in seconds.items())
    return Row("e", what, expected, seen, seconds["fused"] <= 1.05 * seconds["foreach"], seconds)


def out_of_memory(place: Place, greedy: models.Factory = models.Greedy) -> list[Row]:
    """(f) A training that asks for too much is `out_of_memory`; the next one trains, and the memory is back."""
    first = _train(place, PLAIN, models.Small, 10)
    before = allocated() if place.is_gpu else 0
    asked = _train(place, PLAIN, greedy, 10)
    left = allocated() - before if place.is_gpu else 0
    after = _train(place, PLAIN, models.Small, 10)
    what = "memory after it"
    memory = Row("f", what, "given back", f"{left / MEGABYTE:.1f} MB more", left < MEGABYTE)
    return [
        Row("f", "too large a training", "out_of_memory", str(asked.reason), str(asked.reason) == "out_of_memory"),
        Row(
            "f", "the next one", f"val_loss {first.value}", f"{after.reason}, {after.value}", after.value == first.value
        ),
        memory if place.is_gpu else place.only_gpu("f", what, "given back"),
    ]


def flat_memory(place: Place, model: models.Factory = models.Small) -> list[Row]:
    """(g) Memory stays as it is over many trainings in one process."""
    count, width = place.size(30, 12), place.size(2048, 512)
    make = model if model is not models.Small else models.maker(models.Small, width)
    used: list[int] = []
    for _ in range(count):
        _train(place, PLAIN, make, 3)
        used.append(allocated() if place.is_gpu else rss_bytes())
    warm = used[count // 3]
    growth, most = used[-1] - warm, 1 if place.is_gpu else 40
    where = "of the GPU" if place.is_gpu else "of the process"
    seen = f"{growth / MEGABYTE:.1f} MB more than after {count // 3 + 1}"
    return [
        Row("g", f"memory {where} over {count} trainings", f"at most {most} MB more", seen, growth <= most * MEGABYTE)
    ]


def workers(place: Place, run: Any = None, place_workers: Any = worker_environments) -> list[Row]:
    """(h) Two workers train at a time; they share one GPU, and of several each has its own."""
    folder = place.folder / "workers"
    folder.mkdir()
    workload = Workload(models.maker(models.NotesItsDevice, str(folder)), models.numbers)
    attempt = Attempt(PLAIN, "val_loss", 0, {**place.trainer, "max_steps": 10})
    outcomes = (run or _run_local)(place, workload, attempt, workers=2)
    notes = [path.read_text().split() for path in folder.glob("*.worker")]
    values = {outcome.value for outcome in outcomes}
    seen = f"{len(notes)} processes, {', '.join(str(outcome.reason) for outcome in outcomes)}"
    is_ok = len(notes) == 2 and len(values) == 1 and None not in values
    rows = [Row("h", "two workers at a time", "2 processes, the same value", seen, is_ok)]
    devices = visible_devices(place.trainer)
    given = [one.get("CUDA_VISIBLE_DEVICES") for one in place_workers(2, place.trainer)]
    what = "their devices"
    if not place.is_gpu:
        shares = share_devices(3, devices_per_trial(place.trainer), ["0", "1"])
        is_ok = not devices and given == [None, None] and shares == [["0"], ["1"], ["0"]]
        return [*rows, Row("h", what, "none on a CPU; 0, 1, 0 of two GPUs", f"{given}, {shares}", is_ok)]
    expected = [devices[0], devices[1 % len(devices)]]
    seen = f"given {given}, trained on {sorted(' '.join(note) for note in notes)}"
    is_ok = given == expected and sorted(note[-1] for note in notes) == sorted(expected)
    return [*rows, Row("h", f"{what}, of {len(devices)}", f"{expected}", seen, is_ok)]


def _run_local(place: Place, workload: Workload, attempt: Attempt, workers: int) -> list[Any]:
    results: list[Any] = []
    until = time.monotonic() + 120
    with closing(start_engine("local", workers, workload, place.folder, place.trainer, NEVER)) as engine:
        for number in range(workers):
            engine.submit(number, attempt, NullListener())
        while len(results) < workers and time.monotonic() < until:
            done = engine.next_done(1.0)
            if done is not None:
                results.append(done.result)
    return results


def killed_worker(place: Place, run: Any = None) -> list[Row]:
    """(i) A worker that is killed in mid-training loses no trial, and its memory is free."""
    marker = place.folder / "killed"
    free = torch.cuda.mem_get_info()[0] if place.is_gpu else 0
    attempt = Attempt(PLAIN, "val_loss", 0, {**place.trainer, "max_steps": 20})
    workload = Workload(models.maker(models.KillsItself, str(marker)), models.numbers)
    outcomes = (run or _run_local)(place, workload, attempt, workers=1)
    killed = marker.read_text() if marker.exists() else "none"
    seen = f"{', '.join(f'{one.reason} at step {one.steps}' for one in outcomes)}; killed: {killed}"
    is_ok = len(outcomes) == 1 and outcomes[0].value is not None and outcomes[0].steps == 20 and killed != "none"
    rows = [Row("i", "a worker killed at step 6", "its trial completes", seen, is_ok and not _is_alive(killed))]
    what, expected = "its memory", "free"
    if not place.is_gpu:
        return [*rows, place.only_gpu("i", what, expected)]
    until = time.monotonic() + 10
    while (left := free - torch.cuda.mem_get_info()[0]) > 64 * MEGABYTE and time.monotonic() < until:
        time.sleep(0.2)
    return [*rows, Row("i", what, expected, f"{left / MEGABYTE:.0f} MB more in use", left <= 64 * MEGABYTE)]


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    return True


def system_metrics(place: Place, reads: bool = True) -> list[Row]:
    """(j) `--system-metrics` writes the load of the processors and of the GPU."""
    result = opttune.search(
        models.Small,
        models.numbers,
        space="adamw",
        max_steps=place.size(200, 10),
        budget=2,
        trainer=place.trainer,
        study="machine",
        out_dir=place.folder / "machine",
        tracking_uri=place.mlflow,
        tracking=Tracking(report=False, system_metrics=reads),
        progress=False,
        pauses=False,
    )
    client = MlflowClient(place.mlflow)
    parent = client.get_run(result.run_id)
    runs = client.search_runs([parent.info.experiment_id])
    names = {name for run in runs for name in run.data.metrics if name.startswith("system/")}
    processors = sorted(name for name in names if "cpu" in name)
    what, expected = "--system-metrics, GPU", "system/gpu_..."
    rows = [
        Row("j", "--system-metrics, processors", "system/cpu_...", ", ".join(processors) or "none", bool(processors))
    ]
    if not place.is_gpu:
        return [*rows, place.only_gpu("j", what, expected)]
    gpus = sorted(name for name in names if "gpu" in name)
    return [*rows, Row("j", what, expected, ", ".join(gpus) or "none", bool(gpus))]
