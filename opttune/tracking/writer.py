"""`TrackingWriter`: writes to MLflow in the background, so no training waits for it.

    training thread --give--> deque --gather thread--> Spool (disk) --sender thread--> Delivery --> MLflow

There are two threads because a call to MLflow may hang for minutes, while the other thread keeps writing to disk.
"""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from opttune.tracking.address import safe_uri
from opttune.tracking.delivery import Delivery
from opttune.tracking.operations import Kind, Operation, Point
from opttune.tracking.server import Server, quiet_thread
from opttune.tracking.spool import Spool

_SHORTEST_WAIT, _LONGEST_WAIT, _HURRIED_WAIT = 0.5, 10.0, 1.0
_HOPEFUL_TRIES = 2
_WINDOW = 1000


class TrackingWriter:
    """Writes to MLflow in the background, one writer per process. Its methods neither block nor raise MLflow's errors.

    A run is addressed by our key, which is made before MLflow knows the run, or by MLflow's run id.

    Args:
        tracking_uri: Address of MLflow.
        spool_dir: Folder of the spool; entries of an earlier writer are delivered first. None keeps everything in
            memory.
        client: Client to write with; None makes one.
        flush_seconds: Longest time for which points are gathered before they are sent.
        flush_points: Number of gathered points after which they are sent.
        most_in_memory: Operations kept in memory if the folder cannot be written.
    """

    def __init__(
        self,
        tracking_uri: str,
        spool_dir: Path | None = None,
        *,
        client: MlflowClient | None = None,
        flush_seconds: float = 2.0,
        flush_points: int = 1000,
        most_in_memory: int = 100_000,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.spool_dir = spool_dir
        self._flush_seconds = flush_seconds
        self._flush_points = flush_points
        self._spool = Spool(spool_dir, most_in_memory)
        self._delivery = Delivery(Server(tracking_uri, client), self._learn)
        self._incoming: deque[Operation] = deque()
        self._points = 0
        self._wake = threading.Event()
        self._gathering = threading.Lock()
        self._changed = threading.Condition()
        self._run_ids: dict[str, str] = {}
        self._outage = ""
        self._attempt = 1
        self._hurried = 0
        self._closed = False
        self._process = os.getpid()
        self._threads = [
            threading.Thread(target=target, name=f"opttune-{target.__name__[1:]}", daemon=True)
            for target in (self._gather, self._send)
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def open_run(
        self,
        key: str,
        name: str,
        *,
        experiment: str,
        tags: Mapping[str, str],
        parent: str | None = None,
        reopen: bool = False,
    ) -> None:
        """Find the run of this key, or create it.

        Args:
            key: Our key of the run, or MLflow's id of an existing one.
            name: Name of a new run.
            experiment: Name of the experiment; created if necessary.
            tags: Tags of a new run.
            parent: Key or id of its parent run.
            reopen: Whether to set an existing run running again.
        """
        data = {
            "name": name,
            "experiment": experiment,
            "tags": _texts(tags),
            "parent": parent,
            "reopen": reopen,
            "time": _now_ms(),
        }
        self._give(Operation(Kind.OPEN, key, data), at_once=True)

    def metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """Write points (name, value, step, time in milliseconds); NaN and infinite values are allowed."""
        if self._closed:
            return
        self._points += len(points)
        self._incoming.append(Operation(Kind.METRICS, run_id, points))
        if self._points >= self._flush_points:
            self._points = 0
            self._wake.set()

    def params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Write params; they cannot be changed later."""
        self._give(Operation(Kind.PARAMS, run_id, _texts(params)))

    def tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Write tags; a later value of the same tag replaces it."""
        self._give(Operation(Kind.TAGS, run_id, _texts(tags)))

    def datasets(self, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
        """Write a run's datasets: the arguments of MLflow's `Dataset` for each, and its purpose as `context`."""
        self._give(Operation(Kind.DATASETS, run_id, [dict(each) for each in datasets]))

    def artifact(self, run_id: str, local_path: Path | str, folder: str | None = None) -> None:
        """Write a file or folder, which must stay until it is delivered, as an artifact."""
        path = str(Path(local_path).absolute())
        self._give(Operation(Kind.ARTIFACT, run_id, {"path": path, "folder": folder}), at_once=True)

    def text(self, run_id: str, text: str, file_name: str) -> None:
        """Write a text as an artifact of that name."""
        self._give(Operation(Kind.TEXT, run_id, {"text": safe_uri(text), "name": file_name}), at_once=True)

    def end_run(self, run_id: str, status: str) -> None:
        """Set the final status of a run: FINISHED, KILLED or FAILED."""
        self._give(Operation(Kind.END, run_id, {"status": status, "time": _now_ms()}), at_once=True)

    def reopen_run(self, run_id: str) -> None:
        """Set an ended run running again."""
        self._give(Operation(Kind.REOPEN, run_id, None), at_once=True)

    def find_run_id(self, key: str, timeout_seconds: float = 5.0) -> str | None:
        """Return MLflow's id of a run, after a wait of at most `timeout_seconds`; None until it is known.

        There is no wait while MLflow is unavailable.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: key in self._run_ids or self._closed or self._attempt > _HOPEFUL_TRIES, timeout_seconds
            )
            return self._run_ids.get(key)

    def flush(self, timeout_seconds: float = 30.0) -> bool:
        """Wait until everything written so far is delivered; return whether it is."""
        self._take_in()
        until = self._spool.appended
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._spool.delivered >= until or self._closed, timeout_seconds)
            finally:
                self._hurried -= 1

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Deliver the waiting data for at most `timeout_seconds`; the rest stays in the spool for the next writer."""
        if self._closed or os.getpid() != self._process:
            return
        atexit.unregister(self.close)
        try:
            self.flush(timeout_seconds)
        finally:
            with self._gathering:
                self._move_to_spool()
                self._closed = True
                with self._changed:
                    self._spool.close()
                    self._changed.notify_all()
            self._wake.set()
        for thread in self._threads:
            thread.join(timeout=0.2)  # a call that hangs in MLflow ends with the process

    @property
    def undelivered(self) -> int:
        """Number of operations that are not in MLflow: waiting or lost."""
        return self._spool.waiting + self._spool.lost + len(self._incoming)

    @property
    def problem(self) -> str:
        """One line on the problems so far; empty if there are none."""
        parts = []
        if self._spool.waiting and (self._outage or self._closed):
            what = f"wait in {self.spool_dir} for the next search" if self.spool_dir else "are not delivered"
            parts.append(f"{self._spool.waiting} entries {what} ({self._outage or 'no answer in time'})")
        if self._spool.lost:
            parts.append(f"{self._spool.lost} entries were lost: no space")
        if self._delivery.refused:
            parts.append(f"{self._delivery.refused} entries were refused ({_one_line(self._delivery.refusal)})")
        return f"MLflow at {safe_uri(self.tracking_uri)}: {'; '.join(parts)}." if parts else ""

    def _give(self, operation: Operation, at_once: bool = False) -> None:
        if self._closed:
            return
        self._incoming.append(operation)
        if at_once:
            self._wake.set()

    def _gather(self) -> None:
        while not self._closed:
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            self._take_in()

    def _take_in(self) -> None:
        with self._gathering:
            if not self._closed:
                self._move_to_spool()
        with self._changed:
            self._changed.notify_all()

    def _move_to_spool(self) -> None:
        operations = [self._incoming.popleft() for _ in range(len(self._incoming))]
        if operations:
            self._points = 0
            self._spool.append(operations)

    def _send(self) -> None:
        with quiet_thread():
            while not self._closed:
                with self._changed:
                    self._changed.wait_for(lambda: self._spool.waiting > 0 or self._closed)
                operations = [] if self._closed else self._spool.peek(_WINDOW)
                if not operations:
                    continue
                self._deliver(operations)

    def _deliver(self, operations: list[Operation]) -> None:
        try:
            self._delivery.deliver(operations, self._attempt, are_left=self._spool.reads_left)
        except Exception as err:
            self._outage = _one_line(str(err) or type(err).__name__)
            self._attempt += 1
            self._rest(min(_SHORTEST_WAIT * 2 ** (self._attempt - 2), _LONGEST_WAIT))
            return
        with self._changed:
            if not self._closed:
                self._outage, self._attempt = "", 1
                self._spool.advance(len(operations))
            self._changed.notify_all()

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._changed:
            self._changed.notify_all()
            while not self._closed and (left := end - time.monotonic()) > 0:
                if self._hurried:
                    end, left = min(end, time.monotonic() + _HURRIED_WAIT), min(left, _HURRIED_WAIT)
                self._changed.wait(left)

    def _learn(self, key: str, run_id: str) -> None:
        with self._changed:
            self._run_ids[key] = run_id
            self._changed.notify_all()


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as texts, with passwords in addresses masked."""
    return {str(name): safe_uri(str(value)) for name, value in values.items()}


def _one_line(text: str) -> str:
    line = safe_uri(" ".join(text.split()))
    return line if len(line) <= 200 else f"{line[:197]}..."


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
