"""What every engine offers: attempts in, outcomes out. No engine knows of a study."""

from dataclasses import dataclass
from typing import Protocol

from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.training.attempt import Attempt, AttemptListener

ENGINE_FOLDER = ".engine-"
"""How the name of a folder begins that an engine keeps in the search's folder while it runs."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an attempt.

    Attributes:
        job: The number under which it was submitted.
        result: The outcome, or the error of opttune's that ends the search.
    """

    job: int
    result: Outcome | OpttuneError


class Engine(Protocol):
    """Trains attempts, several at a time.

    Attributes:
        slots: How many attempts may be under way.
        trains_here: Whether `next_done` itself trains, so that Ctrl-C must be able to break it off.
    """

    slots: int
    trains_here: bool

    def submit(self, job: int, attempt: Attempt, listener: AttemptListener) -> None:
        """Begin an attempt; fewer than `slots` are under way.

        Args:
            job: A number of the caller's, by which `next_done` names it.
            attempt: What to train.
            listener: Takes its steps and metrics, in order, from within `next_done`.

        Raises:
            OpttuneError: It cannot be trained at all.
        """

    def next_done(self, timeout_seconds: float) -> Done | None:
        """Wait for an attempt to end, for at most so long where others train; None where none did."""

    def stop(self) -> None:
        """Ask all attempts that are under way to end after their step, with their state saved."""

    def close(self) -> None:
        """End what is still under way at once, and give everything back."""
