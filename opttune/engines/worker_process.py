"""A worker process, controlled by its parent. Nothing slow is imported here, so that it can start early.

It uses no library's process pool. In those of concurrent.futures and loky, one dead process breaks all running tasks;
pebble's survives it. But none of them starts each worker with its own devices, or streams a training's reports, and all
need `if __name__ == "__main__"` in the user's script.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

_END_SECONDS = 5.0
_STDERR = 2
_THREADS = "OMP_NUM_THREADS"
_EARLY: list["WorkerProcess"] = []


class WorkerProcess:
    """One worker process.

    Args:
        environment: Variables that it gets in addition to those of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "opttune.engines.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # on a terminal through this process, which may keep the text out of a live display
            stderr=subprocess.PIPE if os.isatty(_STDERR) else None,
            env={**os.environ, "PYTHONPATH": import_path(), **(environment or {})},
            # Ctrl-C in the terminal does not reach it, and it can be killed with all processes that it has started
            start_new_session=True,
        )
        self._begun = b""
        if self._process.stderr is not None:
            Thread(target=_pass_on, args=(self._process.stderr,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the file descriptor of its messages, for a selector."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def train(self, folder: Path) -> None:
        """Make it train the attempt of a folder."""
        self._tell({"train": str(folder)})

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """Set variables, such as its devices, before its first training."""
        self._tell({"environment": dict(environment)})

    def stop(self) -> None:
        """Ask it to end its training after the current step."""
        self._tell({"stop": True})

    def _tell(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        # `messages` notices that it has died
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have arrived; wait if there are none.

        Raises:
            EOFError: It has died.
        """
        data = os.read(self.fileno(), 1 << 16)
        if not data:
            raise EOFError
        *lines, self._begun = (self._begun + data).split(b"\n")
        yield from map(json.loads, lines)

    @property
    def exit_words(self) -> str:
        """The way it ended, in words; waits for its end."""
        return exit_words(self._process.wait())

    @property
    def was_killed(self) -> bool:
        """Whether another process killed it, or the kernel when memory ran out."""
        return self._process.wait() == -signal.SIGKILL

    def end(self) -> None:
        """Kill it and all processes that it has started."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)


def _pass_on(said: IO[bytes]) -> None:
    """Write a worker's output to standard error as soon as it arrives."""
    with said:
        while data := os.read(said.fileno(), 1 << 16):
            with suppress(OSError):
                os.write(_STDERR, data)


def start_early(workers: int) -> None:
    """Start workers for an engine in advance: they import torch, which takes seconds, while this process does too."""
    _EARLY.extend(WorkerProcess(share_threads(workers)) for _ in range(workers))


def end_early() -> None:
    """Kill the workers that were started early and not used."""
    while _EARLY:
        _EARLY.pop().end()


def take_worker(environment: Mapping[str, str]) -> WorkerProcess:
    """Return a worker with these variables: one that was started early, or a new one."""
    if not _EARLY:
        return WorkerProcess(environment)
    worker = _EARLY.pop(0)
    worker.set_environment(environment)
    return worker


def exit_words(code: int) -> str:
    """Return how a process with a return code of `subprocess` ended, in words.

    Example:
        >>> exit_words(3), exit_words(-9)
        ('ended with exit code 3', 'was killed by signal 9 (SIGKILL)')
    """
    return (
        f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code} ({signal.Signals(-code).name})"
    )


def share_threads(workers: int) -> dict[str, str]:
    """Return the variables that limit a worker to its share of the cores; none if the user has set them.

    A single worker is not limited.
    """
    if workers == 1 or _THREADS in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {_THREADS: str(max(1, cores // workers))}


def import_path() -> str:
    """Return a `PYTHONPATH` with which another process imports this copy of opttune."""
    own = str(Path(__file__).parents[2])
    given = os.environ.get("PYTHONPATH", "")
    return given if own in given.split(os.pathsep) else os.pathsep.join(filter(None, (own, given)))
