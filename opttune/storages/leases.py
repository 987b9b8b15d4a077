"""Leases: which process trains which trial, if several processes share a study.

A process claims a waiting trial by making it a running one. If two processes try, Optuna's storages let only one
succeed. The *holder* writes its name into the trial, and increments its heartbeat counter in the study every few
seconds. If another process sees the counter unchanged for four intervals on its own clock, it takes over the holder's
trials; clocks are never compared.

Optuna cannot choose one of several processes for a trial that is already running. A process that takes one over
therefore writes its name into it, waits until every other write has arrived, and continues only if the name is still
its own.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from opttune.storages.records import ALIVE

HEARTBEAT_SECONDS = 5.0
_EXPIRES_AFTER_BEATS = 4
SETTLE_SECONDS = 2.0
"""Every write arrives within this time; otherwise two processes may take over the same trial."""


class Leases:
    """This process as a holder of trials, and its knowledge of other processes.

    Args:
        read: Returns the study's user attributes.
        write: Sets one of them.
        is_shared: Whether other processes may work on the study at the same time.
        heartbeat_seconds: Seconds between two heartbeats; after four intervals without one a lease is expired.
        settle_seconds: Seconds within which every write arrives.

    Attributes:
        holder: The name of this process.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Any]],
        write: Callable[[str, Any], None],
        is_shared: bool,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.holder = f"{_place()}/{os.getpid()}/{uuid4().hex[:8]}"
        self.is_shared = is_shared
        self._read, self._write = read, write
        self._heartbeat_seconds, self._settle_seconds = heartbeat_seconds, settle_seconds
        self._last_seen: dict[str, tuple[Any, float]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send heartbeats from now on, if other processes may work on the study."""
        if self.is_shared and self._thread is None:
            self._thread = threading.Thread(target=self._send_heartbeats, name="opttune-lease", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Send no more heartbeats."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(self._heartbeat_seconds)

    def is_expired(self, holder: str) -> bool:
        """Return whether the process that holds a trial has died.

        Args:
            holder: The name in the trial; empty if a process died before it wrote one.
        """
        if holder == self.holder:
            return False
        if not self.is_shared or _has_exited_here(holder):
            return True
        count, now = self._read().get(f"{ALIVE}.{holder}"), time.monotonic()
        if holder not in self._last_seen or self._last_seen[holder][0] != count:
            self._last_seen[holder] = (count, now)
        return now - self._last_seen[holder][1] > _EXPIRES_AFTER_BEATS * self._heartbeat_seconds

    def settle(self) -> None:
        """Wait until simultaneous writes of other processes have arrived, because the last name counts."""
        if self.is_shared:
            time.sleep(self._settle_seconds)

    def _send_heartbeats(self) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            # the storage may be reachable again at the next heartbeat
            with suppress(Exception):
                self._write(f"{ALIVE}.{self.holder}", count)
            self._ended.wait(self._heartbeat_seconds)


def _place() -> str:
    """Return a name for the PID namespace: this boot of this machine, or of a container on it."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}-{boot[:8]}-{os.stat('/proc/self/ns/pid').st_ino}"
    return socket.gethostname()


def _has_exited_here(holder: str) -> bool:
    """Return whether a holder belonged to this PID namespace and has exited."""
    place, _, rest = holder.rpartition("/")[0].rpartition("/")
    if place != _place() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
