"""The outcome of one training run, and the reason why it ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from opttune.errors import InputError, one_of, shown
from opttune.recipe import is_number


class StopReason(StrEnum):
    """The reasons why a training run ends; MLflow and the tables show these texts."""

    COMPLETED = "completed"
    """It ran its full length."""
    EARLY_STOPPED = "early_stopped"
    """One of the user's callbacks, such as EarlyStopping, ended it; its value counts."""
    NON_FINITE = "non_finite"
    """The loss, or the monitored value at the end, was NaN or infinite."""
    BLOW_UP = "blow_up"
    """The loss rose far above its first values and stayed there."""
    STALL = "stall"
    """The loss had not fallen after the warmup, and no validation had improved."""
    PAUSED = "paused"
    """It waits at a rung of the search with its state saved; its value is the metric at that rung, if it has one."""
    OUTRANKED = "outranked"
    """It was paused at a rung and not promoted; it is never resumed. Its value is the metric at that rung."""
    PRUNED = "pruned"
    """The user's own Optuna pruner ended it."""
    OUT_OF_MEMORY = "out_of_memory"
    """The device or the machine had too little memory; the same recipe would fail again."""
    FAILED = "failed"
    """The user's code, or a library that it calls, raised an error."""
    INTERRUPTED = "interrupted"
    """The search was stopped; the trial resumes with the search."""

    @property
    def has_value(self) -> bool:
        """Whether a run with this reason may have a value, at its full length or at a rung."""
        return self.counts or self in (StopReason.PAUSED, StopReason.OUTRANKED)

    @property
    def counts(self) -> bool:
        """Whether the value is that of a finished training."""
        return self in (StopReason.COMPLETED, StopReason.EARLY_STOPPED)

    @property
    def is_divergence(self) -> bool:
        """Whether the loss diverged: a smaller learning rate would have helped."""
        return self in (StopReason.NON_FINITE, StopReason.BLOW_UP)

    @property
    def is_infeasible(self) -> bool:
        """Whether the recipe cannot work: it diverges, stalls, or needs too much memory."""
        return self.is_divergence or self in (StopReason.STALL, StopReason.OUT_OF_MEMORY)


def optimizer_steps(counted: int, share: float) -> int:
    """Return an optimizer's own steps for a number of counted steps; at least one for one.

    Example:
        >>> optimizer_steps(200, 1.0), optimizer_steps(200, 0.3), optimizer_steps(1, 0.3), optimizer_steps(0, 0.3)
        (200, 60, 1, 0)
    """
    return max(min(1, counted), round(counted * share))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one training run.

    Attributes:
        reason: Why the run ended.
        value: The monitored metric at the end, or at the rung of a paused run; None if the run reached neither, or if
            the metric is not defined yet at the rung.
        steps: Optimizer steps done.
        total_steps: Optimizer steps of the full length.
        seconds: Wall time of the run.
        message: One sentence on the stop, with its numbers; empty for a completed run.
        traceback: The traceback of the error that ended the run; empty without an error.
        replaced: The module's own optimizer, in words, if a recipe replaced it; else empty.
        groups: Table of the optimizer's parameter groups in Markdown; empty if the module kept its own.
        state_bytes: Bytes of the optimizer's state at the end; also 0 if no optimizer was built.
        alarms: Alarms of the guard, which do not end the run, one sentence each; may be empty.
        stopped_lr: The learning rate at which the run diverged or stalled; None if it did neither.
        look_steps: Optimizer steps beyond `steps` in the look at a paused run, which the run does not keep.
        is_look_stopped: Whether this look was stopped, and must be repeated; the value is that at the rung itself.
        step_seconds: Mean wall time of an optimizer step, without validations; None for fewer than two steps.
        share: The optimizer's own steps per counted step. It is below 1 if all trainings take the same time
            (`--budget-unit time`) and a step of this one takes longer than the baseline's.

    Raises:
        InputError: A field has the wrong kind, or the reason does not fit the value.

    Example:
        >>> outcome = Outcome(StopReason.COMPLETED, 0.25, steps=100, total_steps=100, seconds=1.5)
        >>> Outcome.from_dict(outcome.to_dict()) == outcome
        True
    """

    reason: StopReason
    value: float | None
    steps: int
    total_steps: int
    seconds: float
    message: str = ""
    traceback: str = ""
    replaced: str = ""
    groups: str = ""
    state_bytes: int = 0
    alarms: str = ""
    stopped_lr: float | None = None
    look_steps: int = 0
    is_look_stopped: bool = False
    step_seconds: float | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.reason, StopReason):
            raise InputError(f"outcome: reason must be a StopReason, got {shown(self.reason)}.")
        if self.value is not None and not is_number(self.value):
            raise InputError(f"outcome: value must be a finite number or None, got {shown(self.value)}.")
        if self.reason.counts > (self.value is not None) or self.reason.has_value < (self.value is not None):
            raise InputError(f"outcome: reason {self.reason!s} does not fit value {self.value!r}.")
        for name in ("steps", "total_steps", "state_bytes", "look_steps"):
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise InputError(f"outcome: {name} must be a whole number >= 0, got {shown(count)}.")
        if not isinstance(self.is_look_stopped, bool):
            raise InputError(f"outcome: is_look_stopped must be true or false, got {shown(self.is_look_stopped)}.")
        self._check_times()
        if self.stopped_lr is not None and not is_number(self.stopped_lr):
            raise InputError(f"outcome: stopped_lr must be a finite number or None, got {shown(self.stopped_lr)}.")
        for name in ("message", "traceback", "replaced", "groups", "alarms"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"outcome: {name} must be text, got {shown(getattr(self, name))}.")

    def _check_times(self) -> None:
        if not is_number(self.seconds) or self.seconds < 0:
            raise InputError(f"outcome: seconds must be a number >= 0, got {shown(self.seconds)}.")
        if self.step_seconds is not None and not (is_number(self.step_seconds) and self.step_seconds >= 0):
            raise InputError(f"outcome: step_seconds must be a number >= 0 or None, got {shown(self.step_seconds)}.")
        if not is_number(self.share) or not 0 < self.share <= 1:
            raise InputError(f"outcome: share must be a number above 0 and at most 1, got {shown(self.share)}.")

    @property
    def words(self) -> str:
        """The reason and the message, on one line.

        Example:
            >>> Outcome(StopReason.FAILED, None, 0, 9, 0.1, "ValueError: no data").words
            'failed: ValueError: no data'
        """
        message = " ".join(self.message.split())
        return message if message.startswith(str(self.reason)) else f"{self.reason}: {message}".removesuffix(": ")

    @property
    def optimizer_steps(self) -> int:
        """The optimizer's own steps, even if another number is counted."""
        return optimizer_steps(self.steps, self.share)

    @property
    def has_diverged(self) -> bool:
        """Whether the training diverged; a metric that was NaN only at the end says nothing about the learning rate."""
        is_of_metric = self.stopped_lr is None and self.steps >= self.total_steps
        return self.reason.is_divergence and not (self.reason is StopReason.NON_FINITE and is_of_metric)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Outcome":
        """Make an outcome from the result of `to_dict`.

        Raises:
            InputError: A field is unknown, missing or of the wrong kind.
        """
        if not isinstance(fields, Mapping):
            raise InputError(f"outcome: must be a mapping, got {shown(fields)}.")
        # studies from before 2026-12 contain the result of a check of the guard
        fields = {name: value for name, value in fields.items() if name != "flagged"}
        for name in fields:
            if name not in cls.__dataclass_fields__:
                raise InputError(f"outcome: unknown key {shown(name)}. {one_of(cls.__dataclass_fields__)}")
        for name in ("reason", "value", "steps", "total_steps", "seconds"):
            if name not in fields:
                raise InputError(f"outcome: there is no {name!r}.")
        reasons = [reason for reason in StopReason if reason == fields["reason"]]
        if not reasons:
            raise InputError(f"outcome: unknown reason {shown(fields['reason'])}. {one_of(StopReason)}")
        return cls(**{**fields, "reason": reasons[0]})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; `from_dict` reads them back without loss."""
        return {**asdict(self), "reason": str(self.reason)}
