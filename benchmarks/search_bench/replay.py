"""Run methods on tables, each to a budget, in several processes."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zlib import crc32

from search_bench.ablations import left_out
from search_bench.halving_alone import HALVING, replay_halving
from search_bench.load_tables import load_table
from search_bench.ours import OURS, replay_ours
from search_bench.table_engine import Meter, best_so_far
from search_bench.tables import Table
from search_bench.with_neps import NEPS, replay_neps
from search_bench.with_optuna import OPTUNA, replay_optuna

METHODS = (*OPTUNA, *HALVING, *NEPS, *OURS)


@dataclass(frozen=True, slots=True)
class Job:
    """One search.

    Attributes:
        table: Name of the table.
        method: Name of the method.
        seed: Of the search.
        budget: Cost in full trainings.
        data: Folder of the recorded tables.
    """

    table: str
    method: str
    seed: int
    budget: float
    data: Path


@dataclass(frozen=True, slots=True)
class Record:
    """What one search found.

    Attributes:
        table: Name of the table.
        method: Name of the method.
        seed: Of the search.
        budget: Cost in full trainings that it had.
        spent: Cost in full trainings that it took.
        best: Each improvement: cost in full trainings, and the quantile of the best configuration seen through.
    """

    table: str
    method: str
    seed: int
    budget: float
    spent: float
    best: tuple[tuple[float, float], ...]

    @property
    def key(self) -> tuple[str, str, int, float]:
        """What was run."""
        return self.table, self.method, self.seed, self.budget

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Record":
        """Read a record back from what `to_dict` gave."""
        return cls(**{**fields, "best": tuple((cost, quantile) for cost, quantile in fields["best"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def run_method(name: str, table: Table, budget: float, seed: int) -> Meter:
    """Search a table with one method."""
    if name in OPTUNA:
        return replay_optuna(table, budget, seed, OPTUNA[name])
    if name in HALVING:
        return replay_halving(table, budget, seed)
    if name in NEPS:
        return replay_neps(table, budget, seed, name)
    with left_out(name):
        return replay_ours(table, budget, seed, **OURS.get(name, {}))


@cache
def _table(name: str, data: Path) -> Table:
    return load_table(name, data)


def run_job(job: Job) -> Record:
    """Do one search and return what it found."""
    table = _table(job.table, job.data)
    # a seed draws alike on tables with the same space: each table gets its own
    seed = crc32(f"{job.table}/{job.seed}".encode()) % 2**31
    with warnings.catch_warnings():
        # Optuna's on `group`, and on the mean of values that are all NaN
        warnings.simplefilter("ignore")
        meter = run_method(job.method, table, job.budget, seed)
    best = tuple(best_so_far(meter.finished, table))
    return Record(job.table, job.method, job.seed, job.budget, meter.spent / table.steps, best)


def run_all(jobs: Sequence[Job], processes: int, run: Callable[[Job], Record] = run_job) -> Iterator[Record]:
    """Yield the record of each job as it comes."""
    if processes <= 1:
        yield from map(run, jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            yield future.result()


def make_jobs(
    tables: Iterable[str], methods: Iterable[str], seeds: Iterable[int], budget: float, data: Path
) -> list[Job]:
    """Return a job for each combination, those of one table together: a process loads it once."""
    methods, seeds = list(methods), list(seeds)
    return [Job(table, method, seed, budget, data) for table in tables for method in methods for seed in seeds]
