"""The interface of all engines: they take attempts and return outcomes. No engine depends on a study."""

from dataclasses import dataclass
from typing import Protocol

from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.training.attempt import Attempt, AttemptListener

ENGINE_FOLDER = ".engine-"
"""Prefix of the folder that an engine keeps in the search's folder while it runs."""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an attempt.

    Attributes:
        job: The number under which it was submitted.
        result: The outcome, or the error that ends the search.
    """

    job: int
    result: Outcome | OpttuneError


class Engine(Protocol):
    """Trains attempts, several at a time.

    Attributes:
        slots: How many attempts may run at a time.
        trains_here: Whether `next_done` itself trains, so that Ctrl-C must be able to interrupt it.
    """

    slots: int
    trains_here: bool

    def submit(self, job: int, attempt: Attempt, listener: AttemptListener) -> None:
        """Start an attempt; fewer than `slots` must be running.

        Args:
            job: The number by which `next_done` identifies it.
            attempt: What to train.
            listener: Receives its steps and metrics, in order, during `next_done`.

        Raises:
            OpttuneError: It cannot be started.
        """

    def next_done(self, timeout_seconds: float) -> Done | None:
        """Wait until an attempt has ended; return None after the timeout, which `trains_here` ignores."""

    def stop(self) -> None:
        """Ask all running attempts to save their state and end after their current step."""

    def close(self) -> None:
        """Kill all running attempts and release all resources."""
