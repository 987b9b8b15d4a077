"""How a search scales with its workers: its loop, its engine and its study.

    python benchmarks/scale.py simulated [--workers 64 512] [--seconds 300]
    python benchmarks/scale.py real [--workers 1 2 4]

*simulated*: attempts sleep instead of training; the cost of an optimizer step is drawn for each attempt. While all
sleep, the clock is advanced, so that hours take minutes. The driver takes its real time (with `--busy-machine` its
processor time), during which finished workers wait. Reported are the share of the workers' time that they slept, over
the whole search and until the last attempt started, the driver's time per attempt (everything between two ends), and
the growth of the study.
*real*: small trainings in worker processes of this machine, in trainings per minute compared with one worker.
"""

import argparse
import heapq
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.table import Table
from search_bench.table_engine import NoTracking

import opttune
from opttune.engines.engine import Done
from opttune.integration.sampler import OpttuneSampler
from opttune.outcome import Outcome, StopReason
from opttune.runtime.loop import TrainingLoop
from opttune.runtime.policy import SearchPolicy
from opttune.runtime.progress import ProgressReporter
from opttune.runtime.signals import DeferredInterrupts
from opttune.space.auto import ModelFacts
from opttune.space.parse import load_space
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.training.attempt import Attempt, AttemptListener
from opttune.training.inspection import ModelInspection

LENGTH = 1000
SECONDS_A_TRAINING = 300.0
SPREAD = 0.25
"""Standard deviation of the logarithm of a step's cost, from one attempt to another."""


@dataclass
class SleepingWorkers:
    """An engine whose workers sleep, by a clock that is put forward while all of them do.

    Attributes:
        slots: How many workers there are.
        busy_seconds: What they have slept in all.
        decided_seconds: For each attempt, what the driver needed between being told of an end and the next question.
        decided_cpu_seconds: What it worked in that time; the rest it waited for the disk, and for other processes.
    """

    slots: int
    seconds_a_step: float
    counts_processor_time: bool = False
    busy_seconds: float = 0.0
    decided_seconds: list[float] = field(default_factory=list)
    decided_cpu_seconds: list[float] = field(default_factory=list)
    trains_here: bool = False
    _ends: list[tuple[float, int, Outcome]] = field(default_factory=list)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    _told: tuple[float, float] | None = None
    _skipped: float = 0.0

    def clock(self) -> float:
        """Return the seconds that have passed, those that were skipped included."""
        return (time.process_time() if self.counts_processor_time else time.monotonic()) + self._skipped

    def submit(self, job: int, attempt: Attempt, listener: AttemptListener) -> None:
        """Let a worker sleep for as long as the attempt's steps would take."""
        start = int(attempt.resume_from.read_text()) if attempt.resume_from else 0
        until = attempt.until_step or LENGTH
        seconds = (until - start) * self.seconds_a_step * float(np.exp(self._rng.normal(0.0, SPREAD)))
        self.busy_seconds += seconds
        value = self._value(attempt, until)
        reason = StopReason.PAUSED if until < LENGTH else StopReason.COMPLETED
        if attempt.checkpoint is not None:
            attempt.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            attempt.checkpoint.write_text(str(until))
        heapq.heappush(self._ends, (self.clock() + seconds, job, Outcome(reason, value, until, LENGTH, seconds)))

    def _value(self, attempt: Attempt, until: int) -> float:
        rate = float(str(attempt.recipe.optimizer["lr"])) if attempt.recipe else 1e-3
        return float(np.log10(rate / 1e-3) ** 2 + 1.0 / until**0.5 + self._rng.normal(0.0, 0.05))

    def next_done(self, timeout_seconds: float) -> Done | None:
        """Wait for the next to wake."""
        if self._told is not None:
            wall, cpu = self._told
            self.decided_seconds.append(time.monotonic() - wall)
            self.decided_cpu_seconds.append(time.process_time() - cpu)
            self._told = None
        if not self._ends:
            return None
        end, job, outcome = heapq.heappop(self._ends)
        self._skipped += max(0.0, end - self.clock())
        self._told = time.monotonic(), time.process_time()
        return Done(job, outcome)

    def stop(self) -> None:
        """Do nothing: a search never stops them."""

    def close(self) -> None:
        """Nothing is left of them."""


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="opttune-scale-") as name:
        yield Path(name)


def simulate(
    workers: int, attempts: int, seconds_a_training: float, counts_processor_time: bool = False
) -> dict[str, float]:
    """Search with sleeping workers.

    Args:
        workers: How many.
        attempts: About the number of attempts in all; it sets the budget.
        seconds_a_training: What a full training takes.
        counts_processor_time: Whether the driver's time is that on the processor.
    """
    engine = SleepingWorkers(workers, seconds_a_training / LENGTH, counts_processor_time)
    with _folder() as folder, quiet_optuna():
        config = SearchConfig(
            load_space("adamw"), "val_loss", "min", {"max_steps": LENGTH}, "scale", folder, budget=attempts * 0.35,
            with_baseline=False, workers=workers,
        )  # fmt: skip
        store = StudyStore("scale", open_storage(None, folder), config.spec)
        store.study.sampler = OpttuneSampler(config.space, seed=0)
        inspection = ModelInspection("Net", 1, LENGTH, "", has_own_optimizer=False, facts=ModelFacts(1))
        with DeferredInterrupts() as interrupts:
            policy, silent = SearchPolicy(config, inspection), ProgressReporter()
            search = TrainingLoop(policy, store, engine, NoTracking(), silent, interrupts)  # type: ignore[arg-type]
            started = engine.clock()
            ramp = _Ramp(engine)
            search.run()
            wall = engine.clock() - started
            search.close()
        size = (folder / "study.journal").stat().st_size
        trials = len(store.records())
    done = len(engine.decided_seconds)
    return {
        "workers": workers,
        "attempts": done,
        "trials": trials,
        "attempts a worker": done / workers,
        "busy": engine.busy_seconds / (workers * wall),
        "busy before the end": ramp.busy_share(),
        "ms": 1000 * fmean(engine.decided_seconds),
        "cpu ms": 1000 * fmean(engine.decided_cpu_seconds),
        "worst ms": 1000 * max(engine.decided_seconds),
        "KB a trial": size / 1024 / trials,
    }


class _Ramp:
    """The share of busy time up to the moment at which nothing new is begun: a search ends with workers idle."""

    def __init__(self, engine: SleepingWorkers) -> None:
        self._engine = engine
        self._spans: list[tuple[float, float]] = []
        submit = engine.submit

        def watched(job: int, attempt: Attempt, listener: AttemptListener) -> None:
            before = engine.busy_seconds
            submit(job, attempt, listener)
            begun = engine.clock()
            self._spans.append((begun, begun + engine.busy_seconds - before))

        engine.submit = watched  # type: ignore[method-assign]

    def busy_share(self) -> float:
        """Return it."""
        first, last = self._spans[0][0], self._spans[-1][0]
        busy = sum(max(0.0, min(end, last) - begin) for begin, end in self._spans)
        return busy / (self._engine.slots * (last - first))


def train_really(workers: int, engine: str, trainings: int) -> float:
    """Return the seconds for a search of small trainings, without those for its start."""
    from search_bench.tasks import TASKS

    from opttune.storages.records import OUTCOME

    task = TASKS["digits"] if "digits" in TASKS else next(iter(TASKS.values()))
    with _folder() as folder:
        found = opttune.search(
            task.model, task.data, space="adamw", max_steps=200, budget=trainings, workers=workers, engine=engine,
            baseline=False, out_dir=folder / "out", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", progress=False,
        )  # fmt: skip
        trials = found.study.trials
        begun = min(trial.datetime_start for trial in trials if trial.datetime_start)
        ended = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
        assert all(OUTCOME in trial.user_attrs for trial in trials)
    return (ended - begun).total_seconds()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    simulated = kinds.add_parser("simulated")
    simulated.add_argument("--workers", type=int, nargs="+", default=[64, 512])
    simulated.add_argument(
        "--attempts-a-worker", type=int, default=16, help="the budget, as attempts of 0.35 of a full training"
    )
    simulated.add_argument("--seconds", type=float, default=SECONDS_A_TRAINING, help="of a full training")
    simulated.add_argument(
        "--busy-machine", action="store_true", help="count the driver's time on the processor, without its waiting"
    )
    real = kinds.add_parser("real")
    real.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    real.add_argument("--engine", default="local")
    real.add_argument("--repeats", type=int, default=3)
    real.add_argument("--budget", type=int, default=12)
    options = parser.parse_args()
    if options.kind == "simulated":
        rows = [
            simulate(n, n * options.attempts_a_worker, options.seconds, options.busy_machine) for n in options.workers
        ]
        _print(rows)
        return
    # interleaved: the load of the machine changes
    seconds: dict[int, list[float]] = {n: [] for n in options.workers}
    for _ in range(options.repeats):
        for n in options.workers:
            seconds[n].append(train_really(n, options.engine, options.budget))
    first = options.workers[0]
    _print(
        [
            {
                "workers": n,
                "seconds": fmean(seconds[n]),
                "least": min(seconds[n]),
                "most": max(seconds[n]),
                f"faster than {first}": fmean(seconds[first]) / fmean(seconds[n]),
            }
            for n in options.workers
        ]
    )


def _print(rows: list[dict[str, float]]) -> None:
    table = Table()
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
