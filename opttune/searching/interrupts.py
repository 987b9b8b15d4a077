"""Ctrl-C ends a training at its next step, and is held back while a search writes down what came of it.

A KeyboardInterrupt may come between any two steps of Python, within `logging` and `threading` too, where it
leaves a lock behind that nobody opens again. So the first is raised where losing the place does no harm: between
two steps of the training. Only where no step comes, or at a second press, it is raised wherever the training is.
"""

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class HeldInterrupts:
    """Holds Ctrl-C back while it is entered; one that came meanwhile is raised at the end.

    Outside the main thread, and where the process ignores the signal, it does nothing.

    Args:
        patience_seconds: How long a press in a released stretch waits for the end of a held moment.

    Attributes:
        was_pressed: Whether Ctrl-C came at all. Python swallows an error that is raised while it cleans up after
            an object, so the training that it was meant to end may have gone on.

    Example:
        >>> with HeldInterrupts() as interrupts:
        ...     with interrupts.released():
        ...         with interrupts.held():
        ...             pass  # at its end Ctrl-C raises KeyboardInterrupt
    """

    def __init__(self, patience_seconds: float = 2.0) -> None:
        self.was_pressed = False
        self._patience_seconds = patience_seconds
        # of all that tells a thread something, this alone may be used in a signal's handler
        self._presses: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._watch: threading.Thread | None = None
        self._usual: Callable[[int, FrameType | None], Any] | None = None
        self._is_open = False
        self._came: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> "HeldInterrupts":
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(usual):
            self._usual = usual
            self._watch = threading.Thread(target=self._press_again, name="opttune-interrupts", daemon=True)
            self._watch.start()
            signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._usual is not None and self._watch is not None:
            self._presses.put(False)
            self._watch.join()
            signal.signal(signal.SIGINT, self._usual)
            if kind is None:
                self._raise_what_came()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let Ctrl-C through for a while: at the end of a held moment, else after some seconds or a second press."""
        self._raise_what_came()
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold Ctrl-C back for a moment, within `released`."""
        before, self._is_open = self._is_open, False
        try:
            yield
        finally:
            self._is_open = before
        if before:
            self._raise_what_came()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_again = self._came is not None
        self.was_pressed = True
        self._came = (number, frame)
        if not self._is_open:
            return
        if is_again:
            self._raise_what_came()
        self._presses.put(True)

    def _press_again(self) -> None:
        """Press once more for who pressed once, where a training makes no step; ends with the stretch."""
        while self._presses.get():
            try:
                if not self._presses.get(timeout=self._patience_seconds):
                    return
            except queue.Empty:
                if self._came is not None:
                    # to the main thread itself, so that what it waits for is broken off
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _raise_what_came(self) -> None:
        came, self._came = self._came, None
        if came is not None and self._usual is not None:
            self._usual(*came)
