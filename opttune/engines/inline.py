"""The engine `inline`: attempts run one after another in this process."""

from collections.abc import Callable

from opttune.engines.devices import count_processes
from opttune.engines.engine import Done
from opttune.engines.memory import GarbageCollector
from opttune.engines.multi_device import run_on_devices
from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.training.attempt import Attempt, AttemptListener, run_attempt
from opttune.training.stop import NEVER, Stop
from opttune.training.workload import Workload

Train = Callable[[Attempt, AttemptListener], Outcome]


class InlineEngine:
    """Trains in this process, within `next_done`.

    Args:
        train: Trains one attempt.
    """

    slots = 1
    trains_here = True

    def __init__(self, train: Train) -> None:
        self._train = train
        self._waiting: tuple[int, Attempt, AttemptListener] | None = None

    def submit(self, job: int, attempt: Attempt, listener: AttemptListener) -> None:
        """Keep an attempt for `next_done`."""
        self._waiting = job, attempt, listener

    def next_done(self, timeout_seconds: float) -> Done | None:
        """Train the submitted attempt to its end, without a timeout."""
        if self._waiting is None:
            return None
        job, attempt, listener = self._waiting
        self._waiting = None
        try:
            return Done(job, self._train(attempt, listener))
        except OpttuneError as err:
            return Done(job, err)

    def stop(self) -> None:
        """Do nothing: an attempt in this process checks its own `Stop`."""

    def close(self) -> None:
        """Drop an attempt that has not started."""
        self._waiting = None


def train_here(workload: Workload, stop: Stop = NEVER) -> Train:
    """Return a function that trains an attempt in this process, or in separate processes for several devices.

    Args:
        workload: The user's model and data.
        stop: Checked after each step.
    """
    collector = GarbageCollector()

    def train(attempt: Attempt, listener: AttemptListener) -> Outcome:
        if count_processes(attempt.trainer) > 1:
            return run_on_devices(attempt, workload, listener, stop)
        try:
            return run_attempt(attempt, workload, listener, stop)
        finally:
            collector.collect()

    return train
