"""The request that a training end, asked after every optimizer step."""

import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from opttune.trainer.namespaces import AnyCallback


class Stop(Protocol):
    """What may ask a training to end."""

    @property
    def stop_requested(self) -> bool:
        """Whether the training shall end after its step."""

    def held(self) -> AbstractContextManager[None]:
        """Return a context that is not interrupted, even where the training shall end at once: a state is written."""


class StopSwitch:
    """A request that another thread makes.

    Example:
        >>> switch = StopSwitch()
        >>> switch.stop_requested = True
    """

    def __init__(self) -> None:
        self.stop_requested = False

    def held(self) -> AbstractContextManager[None]:
        """Hold nothing: the switch interrupts nothing."""
        return nullcontext()


NEVER: Stop = StopSwitch()
"""A request that never comes."""


class HeedsOwnSigterm(AnyCallback):
    """Keeps the SIGTERM handler that was installed before the fit; Lightning would abort the fit.

    To be made before the fit. On several ranks Lightning's handler stays: it tells them all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Put the handler back, which Lightning has just made a part of its own."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and trainer.world_size == 1 and callable(self._handler):
            signal.signal(signal.SIGTERM, self._handler)
