"""Whether somebody wants a training to end: asked after every optimizer step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Stop(Protocol):
    """Who may want a training to end."""

    @property
    def was_pressed(self) -> bool:
        """Whether the training shall end after its step."""

    def held(self) -> AbstractContextManager[None]:
        """Return a moment that is not broken off even where the training shall end at once: a state is written."""


class StopSwitch:
    """A switch that another thread turns.

    Example:
        >>> switch = StopSwitch()
        >>> switch.was_pressed = True
    """

    def __init__(self) -> None:
        self.was_pressed = False

    def held(self) -> AbstractContextManager[None]:
        """Hold nothing: the switch breaks nothing off."""
        return nullcontext()


NEVER: Stop = StopSwitch()
"""Nobody wants it."""
