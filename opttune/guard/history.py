"""The guard's history of one run: its losses and validations, the rules that still apply, and the alarms.

An alarm does not end a run: a loss may spike, or gradients may jump, without harm (`rules.py` explains why).
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from statistics import median
from typing import Any

from opttune.guard.rules import (
    NEAR_ZERO,
    Guard,
    StopDecision,
    Timing,
    has_stalled,
    is_blown_up,
    judge,
    judge_stall,
    looks_for_blow_up,
    stall_timing,
    telling,
)
from opttune.guard.steps import StepRecord
from opttune.outcome import StopReason

_USUAL_OF = 50
"""The usual gradient norm is the median over this many steps."""
_LEAST_NORMS = 20
_USUAL_EVERY = 10
"""Steps between two updates of that median."""
_LEAST_VALIDATIONS = 2
_FALL_OVER = 5
"""Losses whose medians are compared to see whether a loss falls. Chosen by hand."""


class RunHistory:
    """Applies the rules to the numbers of one step after another.

    Args:
        guard: The settings.
        total_steps: Optimizer steps of the full length; 0 if unknown.
        mode: Whether the metric of the validations should fall (`min`) or rise (`max`).
        is_whole: Whether the guard sees the run from its first step on. If not, the first loss is unknown, and blow-up
            and stall are not checked.
        falls_first: Whether blow-up is checked only after the loss has fallen. This is for losses that the optimizer
            may not lower.

    Attributes:
        news: Sentences of the alarms that have not been reported yet.

    Example:
        >>> history = RunHistory(Guard(), total_steps=100)
        >>> history.add(StepRecord(1, float("nan"), lr=0.1, grad_norm=None)).message
        'the loss became nan at step 1'
    """

    def __init__(
        self, guard: Guard, total_steps: int, mode: str = "min", is_whole: bool = True, falls_first: bool = False
    ) -> None:
        # rules that no longer apply are turned off
        self._rules = guard if is_whole else replace(guard, blow_up=False, stall=False)
        self._guard, self._total_steps = guard, total_steps
        self._must_fall = falls_first
        self._mode = mode
        self._losses: list[float] = []
        self._validations: list[float] = []
        self._highest_lr, self._risen_until = 0.0, 0
        self._is_waiting = False
        self._alarms = Alarms(guard)
        self.news: list[str] = []

    @property
    def alarms(self) -> tuple[str, ...]:
        """The alarms, one sentence each."""
        return self._alarms.sentences

    @property
    def wants_validations(self) -> bool:
        """Whether a validation can still matter."""
        return self._rules.stall

    def add_validation(self, value: float) -> None:
        """Add the monitored metric of a validation."""
        if self.wants_validations:
            self._validations.append(value)

    def add(self, record: StepRecord, skips_steps: bool = False) -> StopDecision | None:
        """Add an optimizer step; return the decision if the run must end, else None.

        Args:
            record: The step's numbers.
            skips_steps: Whether a GradScaler skips steps with non-finite gradients.
        """
        if record.lr > self._highest_lr:
            self._highest_lr, self._risen_until = record.lr, record.step
        self._say(self._alarms.add(record))
        if record.loss is None:
            return None
        self._losses.append(record.loss)
        self._must_fall = self._must_fall and not self._has_fallen()
        rules = replace(self._rules, blow_up=False) if self._must_fall else self._rules
        decision = judge(self._losses, self._total_steps, rules, skips_steps, record.step)
        decision = decision or self._look_for_stall(record.step)
        self._retire()
        return None if decision is None else replace(decision, lr=record.lr)

    def retire_rule(self, reason: StopReason) -> None:
        """Turn off a rule that has decided, and the weaker ones."""
        was_finite = reason is not StopReason.NON_FINITE
        self._rules = replace(
            self._rules,
            non_finite=self._rules.non_finite and was_finite,
            blow_up=self._rules.blow_up and reason is StopReason.STALL,
            stall=False,
        )

    def progress(self) -> dict[str, Any]:
        """Return the history as plain values, to pause the training."""
        return {
            "losses": list(self._losses),
            "validations": list(self._validations),
            "highest_lr": self._highest_lr,
            "risen_until": self._risen_until,
            "blow_up": self._rules.blow_up,
            "stall": self._rules.stall,
            "must_fall": self._must_fall,
            "is_waiting": self._is_waiting,
            "alarms": self._alarms.progress(),
        }

    def resume_from(self, progress: Mapping[str, Any]) -> None:
        """Restore the history from the result of `progress`."""
        self._losses, self._validations = list(progress["losses"]), list(progress["validations"])
        self._highest_lr, self._risen_until = progress["highest_lr"], progress["risen_until"]
        # a rule may have been turned off since then
        blow_up, stall = self._guard.blow_up and progress["blow_up"], self._guard.stall and progress["stall"]
        self._rules = replace(self._rules, blow_up=blow_up, stall=stall)
        self._must_fall = progress.get("must_fall", self._must_fall)
        self._is_waiting = progress["is_waiting"]
        self._alarms.resume_from(progress["alarms"])

    def _has_fallen(self) -> bool:
        first, last = self._losses[:_FALL_OVER], self._losses[_FALL_OVER:][-_FALL_OVER:]
        return len(last) == _FALL_OVER and median(last) < median(first)

    def _look_for_stall(self, step: int) -> StopDecision | None:
        if not self._rules.stall:
            return None
        timing = stall_timing(step, self._total_steps, self._risen_until, self._rules)
        if timing is Timing.DUE and is_blown_up(list(filter(isfinite, self._losses)), self._rules):
            return None
        if timing is Timing.EARLY:
            return None
        validations = telling(self._validations, self._losses)
        if self._is_waiting and len(validations) < _LEAST_VALIDATIONS:
            self._keep_stall(timing is not Timing.LATE)
            return None
        if timing is Timing.DUE and len(validations) < _LEAST_VALIDATIONS:
            self._is_waiting = has_stalled(self._losses, self._rules)
            self._keep_stall(self._is_waiting)
            if self._is_waiting:
                self._say(self._alarms.note("stall", f"the loss had not fallen by step {step}"))
            return None
        self._keep_stall(False)
        if timing is Timing.LATE:
            return None
        return judge_stall(self._losses, validations, self._mode, self._rules, step)

    def _keep_stall(self, keep: bool) -> None:
        if not keep:
            self._rules = replace(self._rules, stall=False)

    def _retire(self) -> None:
        """Turn off the rules that no longer apply, and drop the losses that no rule needs."""
        if self._rules.blow_up and not looks_for_blow_up(len(self._losses), self._total_steps, self._rules):
            self._rules = replace(self._rules, blow_up=False)
        if not (self._rules.blow_up or self._rules.stall):
            del self._losses[: -self._rules.allowed_skipped_steps - 1]

    def _say(self, sentence: str) -> None:
        if sentence:
            self.news.append(sentence)


class Alarms:
    """Notes spikes of the loss and jumps of the gradients: the first of each kind, and their number.

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
        """The alarms, one sentence for each kind."""
        return tuple(text if times == 1 else f"{text} ({times} times)" for text, times in self._noted.values())

    def add(self, record: StepRecord) -> str:
        """Add a step; return a sentence for the first alarm of a kind, else an empty one."""
        if not self._guard.alarms:
            return ""
        return self._check_loss(record) or self._check_norm(record)

    def note(self, kind: str, text: str) -> str:
        """Note an alarm; return its sentence if it is the first of its kind, else an empty one."""
        known, times = self._noted.get(kind, (text, 0))
        self._noted[kind] = (known, times + 1)
        return "" if times else text

    def progress(self) -> dict[str, Any]:
        """Return the state as plain values."""
        noted = {kind: list(entry) for kind, entry in self._noted.items()}
        return {
            "first": self._first,
            "norms": list(self._norms),
            "seen": self._seen,
            "usual": self._usual,
            "noted": noted,
        }

    def resume_from(self, progress: Mapping[str, Any]) -> None:
        """Restore what `progress` returned."""
        self._first, self._seen, self._usual = progress["first"], progress["seen"], progress["usual"]
        self._norms = deque(progress["norms"], maxlen=_USUAL_OF)
        self._noted = {kind: (text, times) for kind, (text, times) in progress["noted"].items()}

    def _check_loss(self, record: StepRecord) -> str:
        loss = record.loss
        if loss is None or not isfinite(loss):
            return ""
        if self._first is None:
            self._first = loss
        ratio = self._guard.spike_ratio
        # near or below zero a ratio is meaningless
        if self._first <= NEAR_ZERO or loss <= ratio * self._first:
            return ""
        text = f"the loss jumped to {loss:.4g} at step {record.step}, above {ratio:g} x the first, {self._first:.4g}"
        return self.note("spike", text)

    def _check_norm(self, record: StepRecord) -> str:
        norm = record.grad_norm
        if norm is None or not isfinite(norm):
            return ""
        ratio, usual = self._guard.grad_norm_ratio, self._usual
        is_jump = len(self._norms) >= _LEAST_NORMS and norm > ratio * usual > 0
        self._norms.append(norm)
        self._seen += 1
        if len(self._norms) >= _LEAST_NORMS and self._seen % _USUAL_EVERY == 0:
            self._usual = median(self._norms)
        if not is_jump:
            return ""
        text = f"the gradient norm jumped to {norm:.4g} at step {record.step}, above {ratio:g} x the usual {usual:.4g}"
        return self.note("grad_norm", text)
