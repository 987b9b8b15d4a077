"""Train or inspect a model on several devices, in a process that Lightning starts again for every further rank."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from opttune.engines.attempt_file import MESSAGES, OUTCOME, load_result, read_result, save_attempt, save_workload
from opttune.engines.devices import count_processes, without_spawning
from opttune.engines.memory import GarbageCollector
from opttune.engines.messages import StepCounter, dispatch
from opttune.engines.rank_process import INSPECTION, PARENT_PIPE
from opttune.engines.worker_process import exit_words
from opttune.errors import ModelError, OpttuneError
from opttune.outcome import Outcome, StopReason
from opttune.training.attempt import Attempt, AttemptListener
from opttune.training.inspection import ModelInspection, inspect_model
from opttune.training.stop import NEVER, Stop
from opttune.training.workload import Workload

_LOG = "output.txt"
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 5.0
_OF_A_RANK = {f"{name}_RANK" for name in ("LOCAL", "NODE", "GROUP")} | {f"MASTER_{name}" for name in ("ADDR", "PORT")}
_OF_A_TRAINING = _OF_A_RANK | {"RANK", "WORLD_SIZE", "PL_GLOBAL_SEED"}
_LAST_LINES = 40


def run_on_devices(attempt: Attempt, workload: Workload, listener: AttemptListener, stop: Stop = NEVER) -> Outcome:
    """Train one recipe on several devices and return its outcome, as `run_attempt` does on one.

    Args:
        attempt: What to train.
        workload: The user's model and data.
        listener: Receives steps and metrics.
        stop: Checked repeatedly; on a request the steps since the last rung are lost.

    Raises:
        OpttuneError: The model cannot be tuned, the metric is missing, or an object cannot be sent to a process.
    """
    started = time.monotonic()
    counter = StepCounter(listener)
    with _folder_of(attempt, workload) as folder, _process("train", folder) as process:
        try:
            was_stopped = _follow(process, folder, counter, stop)
        except KeyboardInterrupt:
            was_stopped = True
        if was_stopped:
            return _ended(StopReason.INTERRUPTED, counter, started, f"interrupted at step {counter.last_step}")
        result = _result_of(folder)
        if result is None:
            return _ended(StopReason.FAILED, counter, started, _exit_words(process), _tail(folder))
    if isinstance(result, OpttuneError):
        raise result
    return replace(result, seconds=time.monotonic() - started)


def inspect_on_devices(attempt: Attempt, workload: Workload, steps: int) -> ModelInspection:
    """Inspect a model as `inspect_model` does, on the devices of its training."""
    if count_processes(attempt.trainer) == 1:
        collector = GarbageCollector()
        try:
            return inspect_model(attempt, workload, steps)
        except SystemExit:
            # Lightning turns Ctrl-C into this
            raise KeyboardInterrupt from None
        finally:
            # on a GPU the workers need it
            collector.collect()
    with _folder_of(attempt, workload) as folder, _process("inspect", folder, str(steps)) as process:
        process.wait()
        if (folder / INSPECTION).exists():
            inspection: ModelInspection = pickle.loads((folder / INSPECTION).read_bytes())
            return inspection
        result = _result_of(folder)
        if isinstance(result, OpttuneError):
            raise result
        raise ModelError(
            f"{workload.name} fails when it is set up for training: {_exit_words(process)}\n{_tail(folder)}"
        )


def _ended(reason: StopReason, counter: StepCounter, started: float, message: str, trace: str = "") -> Outcome:
    return Outcome(reason, None, counter.last_step, 0, time.monotonic() - started, message, trace)


@contextmanager
def _folder_of(attempt: Attempt, workload: Workload) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="opttune-") as name:
        folder = Path(name)
        save_workload(folder / "workload", workload)
        save_attempt(folder, replace(attempt, trainer=without_spawning(attempt.trainer)), folder / "workload")
        yield folder


@contextmanager
def _process(task: str, folder: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `rank_process` on a folder; at the end kill all of its processes."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_TRAINING} | {PARENT_PIPE: "1"}
    if "SLURM_JOB_ID" in environment:
        # by this name Lightning knows a job whose tasks are not the ranks of a training
        environment["SLURM_JOB_NAME"] = "interactive"
    command = [sys.executable, "-m", "opttune.engines.rank_process", task, str(folder), *arguments]
    with (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        # also ranks that still wait for one that has ended
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_SECONDS)
        if process.stdin is not None:
            process.stdin.close()


def _follow(process: "subprocess.Popen[bytes]", folder: Path, listener: AttemptListener, stop: Stop) -> bool:
    """Dispatch the training's reports until it ends; return whether a stop was requested before."""
    (folder / MESSAGES).touch()
    with (folder / MESSAGES).open(encoding="utf-8") as stream:
        read = _line_reader(stream)
        while process.poll() is None:
            _dispatch_all(read, listener)
            if stop.stop_requested:
                return True
            time.sleep(_POLL_SECONDS)
        _dispatch_all(read, listener)
    return False


def _line_reader(stream: IO[str]) -> Callable[[], str | None]:
    """Return a function that returns the next line, or None as long as it is incomplete."""
    begun = ""

    def read() -> str | None:
        nonlocal begun
        begun += stream.readline()
        if not begun.endswith("\n"):
            return None
        line, begun = begun, ""
        return line

    return read


def _dispatch_all(read: Callable[[], str | None], listener: AttemptListener) -> None:
    while (line := read()) is not None:
        dispatch(json.loads(line), listener)


def _result_of(folder: Path) -> Outcome | OpttuneError | None:
    """Return the result of the first rank; if that is an error or missing, the result of the rank that failed first."""
    result = load_result(folder)
    if isinstance(result, Outcome) and result.reason is not StopReason.FAILED:
        return result
    # the other ranks fail after it, when they lose the connection
    paths = sorted(folder.glob(f"{OUTCOME}*"), key=lambda path: path.stat().st_mtime_ns)
    return read_result(json.loads(paths[0].read_text())) if paths else None


def _exit_words(process: "subprocess.Popen[bytes]") -> str:
    return f"a process of the training {exit_words(process.wait())} before it could report a result"


def _tail(folder: Path) -> str:
    lines = (folder / _LOG).read_text(errors="replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:])
