"""Which process trains which trial, where several share a study.

A trial is begun by the one process for which Optuna makes a waiting trial a running one: of two that try, its
storages let one through. That process, the *holder*, writes its name into the trial, and counts up a number of its
own in the study every few seconds. Who sees a holder's number stand still, by their own clock and for several beats,
takes its trials over; no two clocks are ever compared.

Optuna offers no such choice of one among several for a trial that runs already, nor for a training that is no
trial's. So who takes one over writes its name into it, waits until every other's write would have arrived, and goes on
only where the name still stands.
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

from opttune.storages.records import ALIVE, HOLDER

BEAT_SECONDS = 5.0
_GONE_AFTER_BEATS = 4
SETTLE_SECONDS = 2.0
"""No write takes longer to arrive, or two may take the same trial over."""


class Leases:
    """This process as a holder of trials, and what it knows of the others.

    Args:
        read: Returns the study's user attributes.
        write: Sets one of them.
        is_shared: Whether other processes may work on the study at the same time.
        beat_seconds: Seconds between two signs of life; after four without one a holder counts as gone.
        settle_seconds: Seconds in which every write arrives.

    Attributes:
        holder: The name of this process.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Any]],
        write: Callable[[str, Any], None],
        is_shared: bool,
        beat_seconds: float = BEAT_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.holder = f"{_place()}/{os.getpid()}/{uuid4().hex[:8]}"
        self.is_shared = is_shared
        self._read, self._write = read, write
        self._beat_seconds, self._settle_seconds = beat_seconds, settle_seconds
        self._last_seen: dict[str, tuple[Any, float]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to give signs of life, where anybody looks for them."""
        if self.is_shared and self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="opttune-lease", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Give no more signs of life."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(self._beat_seconds)

    def is_gone(self, holder: str) -> bool:
        """Return whether a trial's holder lives no more.

        Args:
            holder: The name that the trial holds; empty where a process died before it wrote one.
        """
        if holder == self.holder:
            return False
        if not self.is_shared or _is_dead_neighbour(holder):
            return True
        count, now = self._read().get(f"{ALIVE}.{holder}"), time.monotonic()
        if holder not in self._last_seen or self._last_seen[holder][0] != count:
            self._last_seen[holder] = (count, now)
        return now - self._last_seen[holder][1] > _GONE_AFTER_BEATS * self._beat_seconds

    def settle(self) -> None:
        """Wait until what others may have written at the same time has arrived: the last name counts."""
        if self.is_shared:
            time.sleep(self._settle_seconds)

    def asides(self) -> set[str]:
        """Return the trainings that are no trial's and are under way, here or in another process, by their names."""
        held = {name: str(holder) for name, holder in self._read().items() if name.startswith(f"{HOLDER}.")}
        found = {name for name, holder in held.items() if holder and not self.is_gone(holder)}
        return {name.removeprefix(f"{HOLDER}.") for name in found}

    def claim_aside(self, name: str) -> bool:
        """Make a training that is no trial's this process's own; return whether no other was quicker."""
        if name in self.asides():
            return False
        self._write(f"{HOLDER}.{name}", self.holder)
        self.settle()
        return bool(self._read()[f"{HOLDER}.{name}"] == self.holder)

    def release_aside(self, name: str) -> None:
        """Say that a training which is no trial's is under way no longer."""
        self._write(f"{HOLDER}.{name}", "")

    def _beat(self) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            # a storage that cannot be reached now may be at the next beat
            with suppress(Exception):
                self._write(f"{ALIVE}.{self.holder}", count)
            self._ended.wait(self._beat_seconds)


def _place() -> str:
    """Return a name for where process ids count: this boot of this machine, or a container's share of it."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}-{boot[:8]}-{os.stat('/proc/self/ns/pid').st_ino}"
    return socket.gethostname()


def _is_dead_neighbour(holder: str) -> bool:
    """Return whether a holder was a process of this very place and is one no more."""
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
