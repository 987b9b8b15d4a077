"""Requests to end a training; they are checked after every optimizer step."""

import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from opttune.trainer.namespaces import AnyCallback


class Stop(Protocol):
    """A source of requests to end a training."""

    @property
    def stop_requested(self) -> bool:
        """Whether the training must end after its current step."""

    def held(self) -> AbstractContextManager[None]:
        """Return a context that no interrupt breaks off, in which the state is saved."""


class StopSwitch:
    """A request that another thread makes.

    Example:
        >>> switch = StopSwitch()
        >>> switch.stop_requested = True
    """

    def __init__(self) -> None:
        self.stop_requested = False

    def held(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: the switch interrupts nothing."""
        return nullcontext()


NEVER: Stop = StopSwitch()
"""Never requests an end."""


class KeepOwnSigterm(AnyCallback):
    """Keeps the SIGTERM handler that was installed before the fit; Lightning's would abort the fit.

    Create it before the fit. With several ranks Lightning's handler is kept: it notifies all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Restore the handler, which Lightning has just replaced."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and trainer.world_size == 1 and callable(self._handler):
            signal.signal(signal.SIGTERM, self._handler)
