"""Run methods on real tasks, in several processes of one thread each."""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import torch

import opttune
from opttune.space.model import Space
from opttune.study.result import SearchResult
from search_bench.live_optuna import auto_space, run_optuna
from search_bench.live_records import Key, LiveRecord, Trained
from search_bench.tables import with_lr_priors
from search_bench.tasks import TASKS, LiveTask
from search_bench.with_neps import NEPS, run_neps
from search_bench.with_optuna import OPTUNA


def _as_it_comes(task: LiveTask, budget: float) -> str:
    return "auto"


def _without_muon(task: LiveTask, budget: float) -> Space:
    space = auto_space(task, budget)
    kept = tuple(branch for branch in space.optimizers if branch.name != "muon")
    return replace(space, name="no_muon", optimizers=kept)


def _shifted(decades: float) -> Callable[[LiveTask, float], Space]:
    return lambda task, budget: replace(with_lr_priors(auto_space(task, budget), decades), name="shifted")


OURS: Mapping[str, Callable[[LiveTask, float], str | Space]] = {
    "ours": _as_it_comes,
    "ours_no_muon": _without_muon,
    "ours_plus": _shifted(1.5),
    "ours_minus": _shifted(-1.5),
}
"""Method -> the space that is searched."""
METHODS = (*OPTUNA, *NEPS, *OURS)


def run_live(key: Key) -> LiveRecord:
    """Do one search."""
    task_name, method, seed, budget = key
    task, started = TASKS[task_name], time.monotonic()
    # one seed draws alike for tasks with the same space: each task gets its own, which all methods share
    own_seed = crc32(f"{task_name}/{seed}".encode()) % 2**31
    if method in OPTUNA:
        trained = run_optuna(task, method, own_seed, budget)
    elif method in NEPS:
        trained = run_neps(task, auto_space(task, budget), method, own_seed, budget)
    else:
        trained = run_ours(task, OURS[method](task, budget), own_seed, budget)
    return LiveRecord(*key, task.steps, tuple(trained), time.monotonic() - started)


def run_ours(task: LiveTask, space: str | Space, seed: int, budget: float) -> list[Trained]:
    """Search with opttune as it comes; the training of the module as it is counts."""
    with TemporaryDirectory(prefix="opttune-live-") as folder:
        result = opttune.search(
            task.model,
            task.data,
            space=space,
            max_steps=task.steps,
            budget=budget,
            seed=seed,
            study=f"live-{os.getpid()}-{time.monotonic_ns()}",
            out_dir=folder,
            tracking_uri=_database(),
            trainer={"accelerator": "cpu"},
            progress=False,
        )
    return trials_of(result)


def trials_of(result: SearchResult) -> list[Trained]:
    """Return a search's trials in the order in which they ended; one that still pauses has no value."""
    trained = []
    for row in result.trials.to_dict("records"):
        if row["steps_spent"] is None or row["steps_spent"] != row["steps_spent"]:
            continue
        is_full = row["rung"] == 1.0 and row["value"] is not None
        trained.append(Trained(int(row["steps_spent"]), float(row["value"]) if is_full else None))
    trained.sort(key=lambda one: one.spent)
    if trained and trained[-1].spent < result.steps_spent:
        trained.append(Trained(result.steps_spent, None))
    return trained


@cache
def _database() -> str:
    """Return a database of this process; setting one up takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="opttune-live-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def run_all(keys: Sequence[Key], processes: int) -> Iterator[LiveRecord]:
    """Yield the record of each search as it comes."""
    if processes <= 1:
        _use_one_thread()
        yield from map(run_live, keys)
        return
    # before the processes begin: the numeric libraries read it as they are loaded
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        for future in as_completed([pool.submit(run_live, key) for key in keys]):
            yield future.result()


def _use_one_thread() -> None:
    torch.set_num_threads(1)
