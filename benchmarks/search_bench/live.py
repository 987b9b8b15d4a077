"""Run methods on real tasks, in several processes of one thread each."""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import torch

import opttune
from opttune.errors import InputError
from opttune.planning import make_plan
from opttune.preview import inspect_workload, settle_for
from opttune.space.model import Space
from opttune.storages.records import read_trial
from opttune.study.result import SearchResult
from search_bench.ablations import ABLATIONS, left_out
from search_bench.enqueued import ENQUEUED, run_enqueued, run_own
from search_bench.live_optuna import auto_space, run_optuna
from search_bench.live_records import BUDGET, Key, LiveRecord, Trained
from search_bench.long_tasks import LONG_DEVELOP, LONG_REPORT, LONG_TASKS, LongTask
from search_bench.tables import with_lr_priors
from search_bench.tasks import DEVELOP, TASKS, LiveTask
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
    **dict.fromkeys(ABLATIONS, _as_it_comes),
}
"""Method -> the space that is searched."""
METHODS = (*OPTUNA, *NEPS, *(name for name in OURS if name not in ABLATIONS))
OWN = "own"
"""The method that trains the module's recipe once."""
LONG_METHODS = (OWN, *ENQUEUED, *(name for name in ("neps_priorband", "neps_first") if name in NEPS), "ours")
"""The methods that search long tasks unless others are asked for."""
LONG_BUDGETS = (1.5, 3.0, 5.0, 10.0)
ALL_TASKS: Mapping[str, LiveTask] = {**TASKS, **LONG_TASKS}
GROUPS: Mapping[str, Sequence[str]] = {
    "short": tuple(TASKS),
    "develop": DEVELOP,
    "report": tuple(name for name in TASKS if name not in DEVELOP),
    "long": tuple(LONG_TASKS),
    "long-develop": LONG_DEVELOP,
    "long-report": LONG_REPORT,
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A search that the method will not do.

    Attributes:
        key: Which.
        why: Its words.
    """

    key: Key
    why: str


def make_keys(
    tasks: Sequence[str], methods: Sequence[str] | None, seeds: Sequence[int], budgets: Sequence[float] | None
) -> list[Key]:
    """Return the searches to do, those of short and long tasks with defaults of their kind.

    A method whose decisions do not depend on the budget is run at the largest alone: the others are read off its curve.
    """
    keys = []
    # the longest last would leave processes idle: the tasks go round
    for seed in seeds:
        for method in dict.fromkeys(methods or (*METHODS, *LONG_METHODS)):
            for task in tasks:
                is_long = task in LONG_TASKS
                if method not in (methods or (LONG_METHODS if is_long else METHODS)):
                    continue
                if not is_long and (method == OWN or method in ENQUEUED):
                    raise SystemExit(f"{task} brings no good recipe, so {method} cannot search it: say --tasks long.")
                if not is_long and method in ABLATIONS:
                    raise SystemExit(f"{method} leaves out a part of long trainings, and {task} is short.")
                keys += [(task, method, seed, budget) for budget in _budgets(method, budgets, is_long)]
    return keys


def _budgets(method: str, asked: Sequence[float] | None, is_long: bool) -> Sequence[float]:
    budgets = asked or (LONG_BUDGETS if is_long else (BUDGET,))
    if method == OWN:
        return (1.0,)
    # a budget decides how many fields the space of any other method holds
    return (max(budgets),) if method in ENQUEUED else budgets


def attempt(key: Key) -> LiveRecord | Refused:
    """Do one search, if the method does it."""
    try:
        return run_live(key)
    except InputError as error:
        return Refused(key, str(error))


def run_live(key: Key) -> LiveRecord:
    """Do one search."""
    task_name, method, seed, budget = key
    task, started, handed = ALL_TASKS[task_name], time.monotonic(), None
    # one seed draws alike for tasks with the same space: each task gets its own, which all methods share
    own_seed = crc32(f"{task_name}/{seed}".encode()) % 2**31
    if isinstance(task, LongTask) and method == OWN:
        trained = run_own(task, own_seed)
    elif isinstance(task, LongTask) and method in ENQUEUED:
        trained = run_enqueued(task, method, own_seed, budget)
    elif method in OPTUNA:
        trained = run_optuna(task, method, own_seed, budget)
    elif method in NEPS:
        trained = run_neps(task, _space_for_neps(task, budget), method, own_seed, budget)
    else:
        with left_out(method):
            trained, handed = run_ours(task, OURS[method](task, budget), own_seed, budget)
    return LiveRecord(*key, task.steps, tuple(trained), time.monotonic() - started, handed)


def _space_for_neps(task: LiveTask, budget: float) -> Space:
    """Return the space that opttune would search, for long tasks with what it reads off the module's own recipe."""
    if not isinstance(task, LongTask):
        return auto_space(task, budget)
    config, workload = make_plan(
        task.model, task.data, space="auto", monitor="val_loss", mode="min", max_steps=task.steps, max_epochs=None,
        budget=budget, trials=None, timeout=None, workers=1, engine=None, study="neps", out_dir=tempfile.gettempdir(),
        seed=0, guard=None, baseline=False, trainer={"accelerator": "cpu", **task.trainer},
    )  # fmt: skip
    return settle_for(config, inspect_workload(config, workload, steps=0)).space


def run_ours(task: LiveTask, space: str | Space, seed: int, budget: float) -> tuple[list[Trained], float | None]:
    """Search with opttune as it comes; return its trials, the module's own recipe among them, and what it hands out."""
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
            trainer={"accelerator": "cpu", **task.trainer},
            progress=False,
        )
        # the study lies in the folder
        return trials_of(result), result.best_value


def trials_of(result: SearchResult) -> list[Trained]:
    """Return a search's trials in the order in which they ended; one that still pauses has no value."""
    trained, records = [], {trial.number: read_trial(trial) for trial in result.study.trials}
    for row in result.trials.to_dict("records"):
        if row["steps_spent"] is None or row["steps_spent"] != row["steps_spent"]:
            continue
        record = records[row["number"]]
        last, words = record.last, f"#{record.number} {record.recipe}"
        reached = last.steps / last.total_steps if last and last.total_steps else None
        seen = last.value if last and record.value is None else None
        trained.append(Trained(int(row["steps_spent"]), record.value, words, reached, seen))
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


def run_all(keys: Sequence[Key], processes: int) -> Iterator[LiveRecord | Refused]:
    """Yield the record of each search as it comes."""
    if processes <= 1:
        _use_one_thread()
        yield from map(attempt, keys)
        return
    # before the processes begin: the numeric libraries read it as they are loaded
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        for future in as_completed([pool.submit(attempt, key) for key in keys]):
            yield future.result()


def _use_one_thread() -> None:
    torch.set_num_threads(1)
