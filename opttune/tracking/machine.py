"""Write the machine's system metrics (processors, memory, disk, network, GPUs) to the runs of running trainings."""

import os
import threading
import time
from contextlib import suppress
from typing import Any

from opttune.errors import InputError
from opttune.tracking.operations import SYSTEM_PREFIX, Point
from opttune.tracking.writer import TrackingWriter

_INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
_SECONDS = 10.0
"""MLflow's own interval."""


def check_machine_metrics() -> None:
    """Raise an error if this machine's system metrics cannot be read.

    Raises:
        InputError: psutil is not installed, or the interval is not a number.
    """
    _interval()
    _monitors()


class MachineMetrics:
    """Reads MLflow's system metrics every few seconds and writes them to all watched runs.

    A run that ends before the first reading gets one at its end. The step of a reading is the number of seconds
    since this object was made.

    Args:
        writer: Writes them to MLflow.
        seconds: Interval between two readings; None takes `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`, else 10.

    Raises:
        InputError: psutil is not installed, or the interval is not a number.
    """

    def __init__(self, writer: TrackingWriter, seconds: float | None = None) -> None:
        self._writer = writer
        self._seconds = seconds or _interval()
        self._monitors = _monitors()
        self._started = time.monotonic()
        self._read()  # a load is measured since the previous reading
        self._watched: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="opttune-machine", daemon=True)
        self._thread.start()

    def watch(self, key: str) -> None:
        """Write to a run from now on."""
        with self._lock:
            self._watched.add(key)

    def leave(self, key: str) -> None:
        """Write to a watched run for the last time."""
        with self._lock:
            if key in self._watched:
                self._watched.remove(key)
                self._writer.metrics(key, self._read())

    def close(self) -> None:
        """Leave all runs."""
        self._closed.set()
        for key in tuple(self._watched):
            self.leave(key)

    def _run(self) -> None:
        while not self._closed.wait(self._seconds):
            with self._lock:
                points = self._read() if self._watched else []
                for key in self._watched:
                    self._writer.metrics(key, points)

    def _read(self) -> list[Point]:
        values: dict[str, float] = {}
        for monitor in self._monitors:
            # a device that does not answer must not stop the reading of the others
            with suppress(Exception):
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
        step, now = int(time.monotonic() - self._started), time.time_ns() // 1_000_000
        return [(SYSTEM_PREFIX + name, value, step, now) for name, value in values.items()]


def _interval() -> float:
    text = os.environ.get(_INTERVAL) or str(_SECONDS)
    try:
        return max(float(text), 0.1)
    except ValueError:
        raise InputError(f"{_INTERVAL} must be a number of seconds, got {text!r}.") from None


def _monitors() -> list[Any]:
    try:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor
    except ImportError as err:
        raise InputError(
            f"MLflow's system metrics need the package {err.name}: pip install 'opttune[system]', or leave them out."
        ) from None
    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]  # type: ignore[no-untyped-call]
    for gpus in (GPUMonitor, ROCMMonitor):
        # there is no GPU, or the library that reads it is not installed
        with suppress(Exception):
            return [*monitors, gpus()]
    return monitors
