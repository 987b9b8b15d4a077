"""The engine `local`: reused worker processes on this machine, each with one attempt at a time."""

import selectors
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opttune.engines.attempt_file import read_result, save_attempt, save_workload
from opttune.engines.engine import ENGINE_FOLDER, Done
from opttune.engines.messages import StepCounter, dispatch
from opttune.engines.worker_process import WorkerProcess, take_worker
from opttune.errors import OpttuneError
from opttune.outcome import Outcome, StopReason
from opttune.training.attempt import Attempt, AttemptListener
from opttune.training.workload import Workload

_MOST_DEATHS = 3
"""An attempt is restarted twice; when its worker has died three times, it has failed."""
_GROWTH_BYTES = 1 << 29
_GROWTH_RATIO = 1.5
"""A worker whose memory has grown by more since its first attempt is replaced."""


@dataclass(slots=True)
class _Job:
    """A running attempt."""

    number: int
    listener: StepCounter
    folder: Path
    started: float
    deaths: int = 0


class LocalEngine:
    """Trains in worker processes, each with its devices and its share of the cores.

    A worker that dies is replaced, and its attempt restarted from the checkpoint that it was resumed from.

    Args:
        workload: The user's model and data.
        folder: The search's folder; the files of running attempts lie in a temporary folder in it.
        environments: For each worker the environment variables that it gets in addition to those of this process.
        trainer: Arguments of the Trainer that override those of an attempt.

    Raises:
        InputError: The model or the data cannot be sent to a worker.
    """

    trains_here = False

    def __init__(
        self,
        workload: Workload,
        folder: Path,
        environments: Sequence[Mapping[str, str]],
        trainer: Mapping[str, Any] | None = None,
    ) -> None:
        self.slots = len(environments)
        self._trainer = dict(trainer or {})
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=ENGINE_FOLDER, dir=folder)).absolute()
        self._selector = selectors.DefaultSelector()
        self._environments = environments
        self._workers: list[WorkerProcess] = []
        self._jobs: dict[int, _Job] = {}
        self._first_bytes: dict[int, int] = {}
        self._ready: list[Done] = []
        self._ended_idle: set[int] = set()
        try:
            save_workload(self._folder / "workload", workload)
        except OpttuneError:
            self.close()
            raise
        for environment in environments:
            self._workers.append(self._start(environment))

    def _start(self, environment: Mapping[str, str]) -> WorkerProcess:
        worker = take_worker(environment)
        self._selector.register(worker, selectors.EVENT_READ)
        return worker

    def submit(self, job: int, attempt: Attempt, listener: AttemptListener) -> None:
        """Give an attempt to an idle worker."""
        place = next(place for place in range(self.slots) if place not in self._jobs)
        attempt = replace(attempt, trainer={**attempt.trainer, **self._trainer})
        folder = self._folder / f"attempt_{job}"
        save_attempt(folder, attempt, self._folder / "workload")
        self._jobs[place] = _Job(job, StepCounter(listener), folder, time.monotonic())
        if place in self._ended_idle:
            self._ended_idle.discard(place)
            self._workers[place] = self._start(self._environments[place])
        self._workers[place].train(folder)

    def next_done(self, timeout_seconds: float) -> Done | None:
        """Dispatch the workers' reports until an attempt has ended or the timeout is over."""
        until = time.monotonic() + timeout_seconds
        while not self._ready:
            events = self._selector.select(max(0.0, until - time.monotonic()))
            for key, _ in events:
                worker = key.fileobj
                if isinstance(worker, WorkerProcess):
                    self._read(self._workers.index(worker))
            if not events and time.monotonic() >= until:
                return None
        return self._ready.pop(0)

    def _read(self, place: int) -> None:
        try:
            for message in self._workers[place].messages():
                self._take(place, message)
        except EOFError:
            self._replace_dead(place)

    def _take(self, place: int, message: Mapping[str, Any]) -> None:
        job = self._jobs[place]
        if "rss_bytes" not in message:
            dispatch(message, job.listener)
            return
        result = read_result(message)
        self._end(place, result)
        ran_out = isinstance(result, Outcome) and result.reason is StopReason.OUT_OF_MEMORY
        first = self._first_bytes.setdefault(place, message["rss_bytes"])
        if ran_out or message["rss_bytes"] > max(first + _GROWTH_BYTES, first * _GROWTH_RATIO):
            self._replace(place)

    def _replace_dead(self, place: int) -> None:
        """Replace a worker that has died, and restart its attempt."""
        worker, job = self._workers[place], self._jobs.get(place)
        words, was_killed = worker.exit_words, worker.was_killed
        if job is None:
            # replaced only when there is work: perhaps every worker dies early
            self._selector.unregister(worker)
            worker.end()
            self._ended_idle.add(place)
            return
        self._replace(place)
        job.deaths += 1
        if job.deaths < _MOST_DEATHS:
            self._workers[place].train(job.folder)
            return
        # the kernel kills a process in this way when memory runs out
        reason = StopReason.OUT_OF_MEMORY if was_killed else StopReason.FAILED
        message = f"its worker process {words}, {job.deaths} times"
        message += "; most likely the machine had too little memory" if was_killed else ""
        seconds = time.monotonic() - job.started
        self._end(place, Outcome(reason, None, job.listener.last_step, 0, seconds, message))

    def _replace(self, place: int) -> None:
        worker = self._workers[place]
        self._selector.unregister(worker)
        worker.end()
        self._first_bytes.pop(place, None)
        self._workers[place] = self._start(self._environments[place])

    def _end(self, place: int, result: Outcome | OpttuneError) -> None:
        job = self._jobs.pop(place)
        shutil.rmtree(job.folder, ignore_errors=True)
        self._ready.append(Done(job.number, result))

    def stop(self) -> None:
        """Ask all running attempts to save their state and end after their current step."""
        for place in self._jobs:
            self._workers[place].stop()

    def close(self) -> None:
        """Kill all workers and remove their files."""
        for place, worker in enumerate(self._workers):
            if place not in self._ended_idle:
                self._selector.unregister(worker)
                worker.end()
        self._workers.clear()
        self._jobs.clear()
        self._selector.close()
        shutil.rmtree(self._folder, ignore_errors=True)
