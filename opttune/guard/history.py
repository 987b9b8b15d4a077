"""What the guard knows of one run: the numbers that its rules are asked about, and which of them still count."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from opttune.guard.alarms import Alarms
from opttune.guard.rules import Guard, Verdict, is_blown_up, judge, looks_for_blow_up
from opttune.guard.stall import Timing, has_stalled, judge_stall, stall_timing
from opttune.guard.steps import StepRecord
from opttune.outcome import StopReason

_LEAST_VALIDATIONS = 2


class RunHistory:
    """Takes the numbers of one step after another and asks the rules.

    Args:
        guard: The settings.
        total_steps: Optimizer steps of the full length; 0 where it is unknown.
        mode: Whether the metric of the validations is to fall (`min`) or to rise (`max`).
        is_whole: Whether the run is seen from its first step on; else how its loss began is not known, so that
            its rising, or standing still, says nothing.

    Attributes:
        flagged: The verdict that was passed over, where the settings say to note it only.
        news: Sentences on what stood out, since they were last taken.

    Example:
        >>> history = RunHistory(Guard(), total_steps=100)
        >>> history.add(StepRecord(1, float("nan"), lr=0.1, grad_norm=None)).message
        'the loss became nan at step 1'
    """

    def __init__(self, guard: Guard, total_steps: int, mode: str = "min", is_whole: bool = True) -> None:
        # those that have had their time are switched off
        self._rules = guard if is_whole else replace(guard, blow_up=False, stall=False)
        self._total_steps = total_steps
        self._mode = mode
        self._losses: list[float] = []
        self._validations: list[float] = []
        self._highest_lr, self._risen_until = 0.0, 0
        self._is_waiting = False
        self._alarms = Alarms(guard)
        self.flagged: Verdict | None = None
        self.news: list[str] = []

    @property
    def alarms(self) -> tuple[str, ...]:
        """What was noted and ended nothing, a sentence each."""
        flagged = self.flagged
        passed = () if flagged is None else (f"let go on as a check, though {flagged.message}",)
        return (*passed, *self._alarms.sentences)

    @property
    def wants_validations(self) -> bool:
        """Whether a validation can still tell it something."""
        return self._rules.stall

    def add_validation(self, value: float) -> None:
        """Take the monitored metric of a validation."""
        if self.wants_validations:
            self._validations.append(value)

    def add(self, record: StepRecord, skips_steps: bool = False) -> Verdict | None:
        """Take an optimizer step; return why the run must end, or None.

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
        verdict = judge(self._losses, self._total_steps, self._rules, skips_steps, record.step)
        verdict = verdict or self._look_for_stall(record.step)
        self._retire()
        if verdict is None:
            return None
        verdict = replace(verdict, lr=record.lr)
        if self._rules.only_notes and verdict.reason is not StopReason.NON_FINITE:
            self.flagged = verdict
            self._rules = replace(self._rules, blow_up=False, stall=False)
            return None
        return verdict

    def say_no_more_of(self, reason: StopReason) -> None:
        """Switch off the rule that has spoken, and those that would say less."""
        was_finite = reason is not StopReason.NON_FINITE
        self._rules = replace(
            self._rules,
            non_finite=self._rules.non_finite and was_finite,
            blow_up=self._rules.blow_up and reason is StopReason.STALL,
            stall=False,
        )

    def progress(self) -> dict[str, Any]:
        """Return what it remembers, as plain values: for a training that is paused."""
        return {
            "losses": list(self._losses),
            "validations": list(self._validations),
            "highest_lr": self._highest_lr,
            "risen_until": self._risen_until,
            "blow_up": self._rules.blow_up,
            "stall": self._rules.stall,
            "is_waiting": self._is_waiting,
            "alarms": self._alarms.progress(),
            "flagged": None if self.flagged is None else {**asdict(self.flagged), "reason": str(self.flagged.reason)},
        }

    def go_on_from(self, progress: Mapping[str, Any]) -> None:
        """Take up what `progress` gave."""
        self._losses, self._validations = list(progress["losses"]), list(progress["validations"])
        self._highest_lr, self._risen_until = progress["highest_lr"], progress["risen_until"]
        self._rules = replace(self._rules, blow_up=progress["blow_up"], stall=progress["stall"])
        self._is_waiting = progress["is_waiting"]
        self._alarms.go_on_from(progress["alarms"])
        flagged = progress["flagged"]
        self.flagged = flagged and Verdict(**{**flagged, "reason": StopReason(flagged["reason"])})

    def _look_for_stall(self, step: int) -> Verdict | None:
        if not self._rules.stall:
            return None
        timing = stall_timing(step, self._total_steps, self._risen_until, self._rules)
        if timing is Timing.DUE and is_blown_up(list(filter(isfinite, self._losses)), self._rules):
            return None
        if timing is Timing.EARLY or (self._is_waiting and len(self._validations) < _LEAST_VALIDATIONS):
            self._keep_stall(timing is not Timing.LATE)
            return None
        if timing is Timing.DUE and len(self._validations) < _LEAST_VALIDATIONS:
            self._is_waiting = has_stalled(self._losses, self._rules)
            self._keep_stall(self._is_waiting)
            if self._is_waiting:
                self._say(self._alarms.note("stall", f"the loss had not fallen by step {step}"))
            return None
        self._keep_stall(False)
        if timing is Timing.LATE:
            return None
        return judge_stall(self._losses, self._validations, self._mode, self._rules, step)

    def _keep_stall(self, keep: bool) -> None:
        if not keep:
            self._rules = replace(self._rules, stall=False)

    def _retire(self) -> None:
        """Switch off the rules that have had their time, and forget what no rule asks for."""
        if self._rules.blow_up and not looks_for_blow_up(len(self._losses), self._total_steps, self._rules):
            self._rules = replace(self._rules, blow_up=False)
        if not (self._rules.blow_up or self._rules.stall):
            del self._losses[: -self._rules.allowed_skipped_steps - 1]

    def _say(self, sentence: str) -> None:
        if sentence:
            self.news.append(sentence)
