"""What the guard only notes: a spike of the loss, a jump of the gradients. Early rises can be benign."""

from collections import deque
from collections.abc import Mapping
from math import isfinite
from statistics import median
from typing import Any

from opttune.guard.rules import NEAR_ZERO, Guard
from opttune.guard.steps import StepRecord

_USUAL_OF = 50
"""The usual norm is the median of so many."""
_LEAST_NORMS = 20
_SETTLED_EVERY = 10


class Alarms:
    """Notes what stands out, the first of each kind and how many followed.

    Args:
        guard: The settings.

    Example:
        >>> alarms = Alarms(Guard())
        >>> [alarms.add(StepRecord(step, loss, 0.1, None)) for step, loss in enumerate([2.0, 1.9, 9.0, 9.5], 1)]
        ['', '', 'the loss jumped to 9 at step 3, above 2 x the first, 2', '']
        >>> alarms.sentences
        ('the loss jumped to 9 at step 3, above 2 x the first, 2 (2 times)',)
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._first: float | None = None
        self._norms: deque[float] = deque(maxlen=_USUAL_OF)
        self._seen = 0
        self._usual = 0.0
        self._noted: dict[str, tuple[str, int]] = {}

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was noted, a sentence for each kind."""
        return tuple(text if times == 1 else f"{text} ({times} times)" for text, times in self._noted.values())

    def add(self, record: StepRecord) -> str:
        """Take a step; return a sentence where something stands out for the first time, else the empty text."""
        if not self._guard.alarms:
            return ""
        return self._look_at_loss(record) or self._look_at_norm(record)

    def note(self, kind: str, text: str) -> str:
        """Note something of another kind; return the sentence where it is the first."""
        known, times = self._noted.get(kind, (text, 0))
        self._noted[kind] = (known, times + 1)
        return "" if times else text

    def progress(self) -> dict[str, Any]:
        """Return what it remembers, as plain values."""
        noted = {kind: list(entry) for kind, entry in self._noted.items()}
        return {
            "first": self._first,
            "norms": list(self._norms),
            "seen": self._seen,
            "usual": self._usual,
            "noted": noted,
        }

    def go_on_from(self, progress: Mapping[str, Any]) -> None:
        """Take up what `progress` gave."""
        self._first, self._seen, self._usual = progress["first"], progress["seen"], progress["usual"]
        self._norms = deque(progress["norms"], maxlen=_USUAL_OF)
        self._noted = {kind: (text, times) for kind, (text, times) in progress["noted"].items()}

    def _look_at_loss(self, record: StepRecord) -> str:
        loss = record.loss
        if loss is None or not isfinite(loss):
            return ""
        if self._first is None:
            self._first = loss
        ratio = self._guard.spike_ratio
        # near or below zero a ratio says nothing
        if self._first <= NEAR_ZERO or loss <= ratio * self._first:
            return ""
        text = f"the loss jumped to {loss:.4g} at step {record.step}, above {ratio:g} x the first, {self._first:.4g}"
        return self.note("spike", text)

    def _look_at_norm(self, record: StepRecord) -> str:
        norm = record.grad_norm
        if norm is None or not isfinite(norm):
            return ""
        ratio, usual = self._guard.grad_norm_ratio, self._usual
        stands_out = len(self._norms) >= _LEAST_NORMS and norm > ratio * usual > 0
        self._norms.append(norm)
        self._seen += 1
        if len(self._norms) >= _LEAST_NORMS and self._seen % _SETTLED_EVERY == 0:
            self._usual = median(self._norms)
        if not stands_out:
            return ""
        text = (
            f"the gradients' norm jumped to {norm:.4g} at step {record.step}, above {ratio:g} x the usual {usual:.4g}"
        )
        return self.note("grad_norm", text)
