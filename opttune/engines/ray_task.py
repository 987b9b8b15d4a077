"""A task of the engine `ray`: it may run on any node of the cluster."""

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from opttune.engines.attempt_file import load_workload, result_message, working_folder
from opttune.engines.inline import train_here
from opttune.engines.messages import MessageWriter
from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.training.attempt import Attempt
from opttune.training.stop import StopSwitch
from opttune.training.workload import Workload

Files = dict[str, bytes]
"""Field of an attempt that names a file -> its contents."""
_WRITTEN = ("checkpoint", "stop_checkpoint")
_SEND_SECONDS = 0.2
_WORKLOADS: dict[str, Workload] = {}


class Mailbox:
    """Collects what tasks report, in order; an actor on the node that runs the search."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, dict[str, Any]]] = []
        self._is_stopped = False

    def put(self, job: int, messages: list[dict[str, Any]]) -> bool:
        """Add messages of a job; return whether the job must end."""
        self._messages += [(job, message) for message in messages]
        return self._is_stopped

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the messages since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def stop(self) -> None:
        """Make all jobs end after their current step."""
        self._is_stopped = True


def train_task(
    job: int, attempt: Attempt, folder: str, workload: list[Any], state: list[Any], mailbox: Any
) -> tuple[dict[str, Any], Files]:
    """Train an attempt on the node that Ray has chosen.

    Args:
        job: Its number.
        attempt: What to train, with the paths of the search's folder.
        folder: The engine's folder, which this node may not see.
        workload: Reference to the files that hold the user's model and data.
        state: Reference to the checkpoint to resume from; empty if the nodes see the file.
        mailbox: Receives the training's reports.

    Returns:
        The result as plain values, and the files that the search does not see.
    """
    get = import_module("ray").get
    sender = _Sender(job, mailbox, get)
    with sender.sending(), _with_reachable_paths(attempt, Path(folder), state, get) as placed:
        try:
            result: Outcome | OpttuneError = train_here(_workload(folder, workload, get), sender.switch)(
                placed, MessageWriter(sender.write)
            )
        except OpttuneError as err:
            result = err
        return result_message(result), _written(attempt, placed)


def _workload(folder: str, reference: list[Any], get: Any) -> Workload:
    """Return the user's model and data; they are loaded once in each process."""
    if folder not in _WORKLOADS:
        with tempfile.TemporaryDirectory(prefix="opttune-") as place:
            for name, data in get(reference[0]).items():
                (Path(place) / name).write_bytes(data)
            # the user's code may open files relative to the folder of the search
            with suppress(OSError):
                os.chdir(working_folder(Path(place)))
            _WORKLOADS[folder] = load_workload(Path(place))
    return _WORKLOADS[folder]


@contextmanager
def _with_reachable_paths(attempt: Attempt, folder: Path, state: list[Any], get: Any) -> Iterator[Attempt]:
    """Yield the attempt unchanged if this node sees the search's folder, else with paths in a temporary folder."""
    if (folder / "shared").exists():
        yield attempt
        return
    with tempfile.TemporaryDirectory(prefix="opttune-") as name:
        place = Path(name)
        paths: dict[str, Any] = {field: place / field for field in _WRITTEN if getattr(attempt, field) is not None}
        if attempt.resume_from is not None:
            paths["resume_from"] = place / "resume_from"
            paths["resume_from"].write_bytes(get(state[0]) if state else attempt.resume_from.read_bytes())
        yield replace(attempt, **paths)


def _written(attempt: Attempt, placed: Attempt) -> Files:
    if placed == attempt:
        return {}
    paths = {field: getattr(placed, field) for field in _WRITTEN}
    return {field: path.read_bytes() for field, path in paths.items() if path is not None and path.exists()}


class _Sender:
    """Buffers a training's reports and sends them a few times per second, without making the training wait.

    Attributes:
        switch: Set when the search requests the end of the training.
    """

    def __init__(self, job: int, mailbox: Any, get: Any) -> None:
        self.switch = StopSwitch()
        self._job, self._mailbox, self._get = job, mailbox, get
        self._lines: list[str] = []
        self._guard = threading.Lock()
        self._ended = threading.Event()

    def write(self, line: str) -> None:
        """Add a line of `MessageWriter`."""
        with self._guard:
            self._lines.append(line)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send in a thread; at the end everything has arrived."""
        thread = threading.Thread(target=self._send_repeatedly, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._send()

    def _send_repeatedly(self) -> None:
        while not self._ended.wait(_SEND_SECONDS):
            self._send()

    def _send(self) -> None:
        with self._guard:
            lines, self._lines = self._lines, []
        messages = [json.loads(line) for line in lines]
        self.switch.stop_requested = bool(self._get(self._mailbox.put.remote(self._job, messages)))
