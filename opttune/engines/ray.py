"""The engine `ray`: attempts as tasks of a Ray cluster (the extra `ray`).

Ray restarts a task whose node or process is lost, at most twice. If the nodes share the search's folder, checkpoints
are files in it; otherwise they are sent through Ray's object store.
"""

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from opttune.engines.attempt_file import OBJECTS, WORKLOAD, read_result, save_workload
from opttune.engines.devices import devices_per_trial
from opttune.engines.engine import ENGINE_FOLDER, Done
from opttune.engines.messages import StepCounter, dispatch
from opttune.engines.ray_task import Files, Mailbox, train_task
from opttune.engines.worker_process import import_path
from opttune.errors import InputError, MissingExtraError
from opttune.outcome import Outcome, StopReason
from opttune.shared_folder import write_whole
from opttune.training.attempt import Attempt, AttemptListener
from opttune.training.workload import Workload

try:
    # set before the import of Ray, which would otherwise ask on the terminal
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = import_module("ray")
    scheduling: Any = import_module("ray.util.scheduling_strategies")
except ImportError as err:
    raise MissingExtraError(f"the engine ray needs Ray ({err}): pip install 'opttune[ray]'.") from None

_MOST_RETRIES = 2
_CONNECT_SECONDS = 60.0
_REACH_SECONDS = 5.0
_POLL_SECONDS = 0.1


@dataclass(slots=True)
class _Job:
    number: int
    attempt: Attempt
    listener: StepCounter
    started: float


class RayEngine:
    """Trains on a Ray cluster: one at an address, or one that is started on this machine.

    Args:
        workload: The user's model and data.
        folder: The search's folder.
        workers: Trainings at a time.
        trainer: Arguments of the Trainer of every training; a task requests its number of devices from Ray.
        address: Of a running cluster: `host:port`, or `auto`. None for `RAY_ADDRESS`, or a new cluster without it.
        shares_folder: Whether to check if the nodes share the folder; False sends checkpoints through the object store.

    Raises:
        InputError: No cluster answers, or the model cannot be sent.
    """

    trains_here = False

    def __init__(
        self,
        workload: Workload,
        folder: Path,
        workers: int,
        trainer: Mapping[str, Any],
        address: str | None = None,
        shares_folder: bool = True,
    ) -> None:
        self.slots = workers
        self._jobs: dict[Any, _Job] = {}
        self._token = folder.absolute() / f"{ENGINE_FOLDER}{uuid4().hex[:8]}"
        self._token.mkdir(parents=True)
        self._is_ours, self._over = not ray.is_initialized(), threading.Event()
        try:
            save_workload(self._token, workload)
            packed = {name: (self._token / name).read_bytes() for name in (WORKLOAD, OBJECTS)}
            if shares_folder:
                (self._token / "shared").touch()
            if self._is_ours:
                connect(address, workers, self._over)
            self._workload = ray.put(packed)
            here = scheduling.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
            self._task = ray.remote(train_task).options(
                max_retries=_MOST_RETRIES, **_resources(workers, trainer, ray.cluster_resources())
            )
        except BaseException:
            self.close()
            raise

    def submit(self, job: int, attempt: Attempt, listener: AttemptListener) -> None:
        """Give an attempt to Ray, which schedules it."""
        is_far = len(ray.nodes()) > 1 and attempt.resume_from is not None
        # in a list, so that Ray fetches it only on a node that does not see the file
        state = [ray.put(attempt.resume_from.read_bytes())] if is_far and attempt.resume_from else []
        ref = self._task.remote(job, attempt, str(self._token), [self._workload], state, self._mailbox)
        self._jobs[ref] = _Job(job, attempt, StepCounter(listener), time.monotonic())

    def next_done(self, timeout_seconds: float) -> Done | None:
        """Dispatch the tasks' reports until one has ended or the timeout is over."""
        until = time.monotonic() + timeout_seconds
        while True:
            wait = max(0.0, min(_POLL_SECONDS, until - time.monotonic()))
            ready, _ = ray.wait(list(self._jobs), num_returns=1, timeout=wait, fetch_local=False)
            # a task's last messages arrive before its end
            self._dispatch_all()
            if ready:
                return self._end(ready[0])
            if time.monotonic() >= until:
                return None

    def _dispatch_all(self) -> None:
        jobs = {job.number: job for job in self._jobs.values()}
        for number, message in ray.get(self._mailbox.take.remote()):
            job = jobs.get(number)
            if job is not None:
                dispatch(message, job.listener)

    def _end(self, ref: Any) -> Done:
        job = self._jobs.pop(ref)
        try:
            message, files = ray.get(ref)
        except ray.exceptions.RayError as err:
            return Done(job.number, self._lost(job, err))
        _write(job.attempt, files)
        return Done(job.number, read_result(message))

    def _lost(self, job: _Job, error: Exception) -> Outcome:
        """Return the outcome of an attempt that Ray no longer restarts."""
        ran_out = isinstance(error, ray.exceptions.OutOfMemoryError)
        reason = StopReason.OUT_OF_MEMORY if ran_out else StopReason.FAILED
        message = f"Ray has lost it {_MOST_RETRIES + 1} times, last with {type(error).__name__}"
        return Outcome(reason, None, job.listener.last_step, 0, time.monotonic() - job.started, message, str(error))

    def stop(self) -> None:
        """Ask all running attempts to save their state and end after their current step."""
        self._mailbox.stop.remote()

    def close(self) -> None:
        """Cancel all running attempts, and end the cluster if it was started here."""
        for ref in self._jobs:
            ray.cancel(ref, force=True)
        self._jobs.clear()
        if self._is_ours and ray.is_initialized():
            ray.shutdown()
        self._over.set()
        shutil.rmtree(self._token, ignore_errors=True)


def connect(address: str | None, workers: int, over: threading.Event) -> None:
    """Join the cluster at an address, or start one on this machine, which lives until `over` is set.

    Raises:
        InputError: No cluster answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    _reach(address)
    settings: dict[str, Any] = {"include_dashboard": False, "num_cpus": max(workers, os.cpu_count() or 1)}
    problems: list[BaseException] = []
    tried = threading.Event()

    def begin() -> None:
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": import_path()}},
                **({} if address else settings),
            )
        except BaseException as err:
            problems.append(err)
        tried.set()
        # Linux kills the processes of Ray when the thread that started them ends
        over.wait()

    # Ray itself would retry for many minutes
    threading.Thread(target=begin, daemon=True).start()
    where = f"at {address}" if address else "on this machine"
    if not tried.wait(_CONNECT_SECONDS):
        raise InputError(f"no Ray cluster {where} answers within {_CONNECT_SECONDS:.0f} seconds. {_ADVICE}")
    if problems:
        raise InputError(f"Ray cannot be used {where}: {type(problems[0]).__name__}: {problems[0]}. {_ADVICE}")


_ADVICE = (
    "Start one with `ray start --head --node-ip-address=IP`, and give IP:PORT as --ray-address; without an address one "
    "is started on this machine."
)


def _reach(address: str | None) -> None:
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit() or "//" in host:
        return
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except OSError as err:
        raise InputError(f"no Ray cluster answers at {address} ({err}). {_ADVICE}") from None


def _resources(workers: int, trainer: Mapping[str, Any], cluster: Mapping[str, float]) -> dict[str, float]:
    """Return the resources of a task: its Trainer's devices, or a part of a GPU if there are more workers than GPUs."""
    asked = devices_per_trial(trainer)
    gpus = cluster.get("GPU", 0.0)
    if not gpus or str(trainer.get("accelerator", "auto")) not in ("auto", "gpu", "cuda"):
        return {"num_cpus": asked}
    if asked == 1 and workers > gpus:
        # rounded down to hundredths, so that all workers fit
        return {"num_cpus": 1, "num_gpus": int(100 * gpus / workers) / 100 or 0.01}
    return {"num_cpus": 1, "num_gpus": asked}


def _write(attempt: Attempt, files: Files) -> None:
    """Write the checkpoints that were sent through the object store to the paths of the attempt."""
    for name, data in files.items():
        path: Path = getattr(attempt, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
