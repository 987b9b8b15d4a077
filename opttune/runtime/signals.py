"""Ctrl-C and SIGTERM: they end a training at its next step, and wait while a search records its outcome.

A KeyboardInterrupt may arrive between any two steps of Python. Within `logging` and `threading`, it leaves a lock that
is never released. Therefore the first press is only a request: the training sees it after its step, saves its state and
ends. If the training does not end within some seconds, or at a second press, KeyboardInterrupt is raised at once.
"""

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

GRACE_SECONDS = 3.0
"""Time for a training to end by itself."""


class DeferredInterrupts:
    """Defers Ctrl-C and SIGTERM inside the context, and raises a deferred one at its end.

    Outside the main thread, and for a signal that the process ignores, it does nothing.

    Args:
        grace_seconds: Time after a press in a released stretch for the training to end by itself.

    Attributes:
        stop_requested: Whether a signal has arrived: the training should end after its step.
        is_forced: Whether a second signal has arrived, or the grace period is over: the training must end at once.

    Example:
        >>> with DeferredInterrupts() as interrupts:
        ...     with interrupts.released():
        ...         with interrupts.held():
        ...             pass  # a second Ctrl-C raises KeyboardInterrupt at its end
    """

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self.stop_requested = False
        self.is_forced = False
        self._grace_seconds = grace_seconds
        # the only way to notify a thread that a signal handler may use
        self._presses: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._watch: threading.Thread | None = None
        self._before: dict[int, Any] = {}
        self._is_released = False
        self._is_open = False
        self._came: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> "DeferredInterrupts":
        if threading.current_thread() is not threading.main_thread():
            return self
        for known in (signal.SIGINT, signal.SIGTERM):
            usual = signal.getsignal(known)
            if callable(usual) or (known == signal.SIGTERM and usual == signal.SIG_DFL):
                self._before[int(known)] = usual
        if self._before:
            self._watch = threading.Thread(target=self._press_again, name="opttune-interrupts", daemon=True)
            self._watch.start()
            for number in self._before:
                signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._presses.put(False)
            self._watch.join()
            for number, usual in self._before.items():
                signal.signal(number, usual)
            if kind is None:
                self._raise_what_came()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let Ctrl-C through inside the context: a second one, or a first one after the grace period."""
        self._raise_what_came()
        self._is_released = self._is_open = True
        try:
            yield
        finally:
            self._is_released = self._is_open = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Defer every Ctrl-C for a moment, within `released`."""
        before, self._is_open = self._is_open, False
        try:
            yield
        finally:
            self._is_open = before
        if before and self.is_forced:
            self._raise_what_came()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.is_forced = self.is_forced or self.stop_requested
        self.stop_requested = True
        self._came = (number, frame)
        if self.is_forced and self._is_open:
            self._raise_what_came()
        elif self._is_released:
            self._presses.put(True)

    def _press_again(self) -> None:
        """Repeat a press if the training does not end within the grace period; end with the released stretch."""
        while self._presses.get():
            try:
                if not self._presses.get(timeout=self._grace_seconds):
                    return
            except queue.Empty:
                if self._came is not None and self._is_released:
                    # sent to the main thread itself, to interrupt its wait
                    signal.pthread_kill(threading.main_thread().ident or 0, next(iter(self._before)))

    def _raise_what_came(self) -> None:
        came, self._came = self._came, None
        if came is None:
            return
        usual = self._before[came[0]]
        (usual if callable(usual) else signal.default_int_handler)(*came)
