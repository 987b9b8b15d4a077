"""Trials that fail one after another: when to leave an optimizer out, and when to stop trying."""

import re

from opttune.outcome import Outcome, StopReason

_MOST_ALIKE = 3
"""Number of trials in a row that fail with the same error and end an optimizer, or the search if the error is not the
optimizer's: the next one would fail as well."""
_MOST_OF_ANY_KIND = 10
"""Number of failures in a row that end the search whatever their errors: trials that fail before their first step cost
nothing."""
_MOST_AT_ONE_STEP = 10
"""Number of trials in a row that become non-finite in the same step and end the search: their rates differ, their data
do not."""
_MOST_WORDS = 300
"""Most characters of a quoted message."""


class FailureStopper:
    """The trials that have failed in a row.

    Args:
        optimizers: The number of optimizers of the space.

    Attributes:
        left_out: The optimizers whose trials failed alike, each with a sentence.

    Example:
        >>> failures = FailureStopper()
        >>> for number in range(3):
        ...     failures.note(Outcome(StopReason.FAILED, None, 0, 10, 0.0, f"OSError: no file {number}"))
        >>> failures.verdict
        'the last 3 trials failed alike: OSError: no file 2'
    """

    def __init__(self, optimizers: int = 1) -> None:
        self._optimizers = optimizers
        self._failed: list[tuple[str, str]] = []
        self._non_finite: list[str] = []
        self._of_optimizer: dict[str, list[str]] = {}
        self.left_out: dict[str, str] = {}

    def note(self, outcome: Outcome, optimizer: str = "") -> None:
        """Note the outcome of the latest trial.

        Args:
            outcome: Its outcome.
            optimizer: The name of its optimizer.
        """
        is_finite = outcome.reason is not StopReason.NON_FINITE
        self._non_finite = [] if is_finite else [*self._non_finite, outcome.message][-_MOST_AT_ONE_STEP:]
        if outcome.reason not in (StopReason.FAILED, StopReason.OUT_OF_MEMORY):
            self._failed, self._of_optimizer[optimizer] = [], []
            return
        self._failed.append((optimizer, outcome.message))
        own = self._of_optimizer.setdefault(optimizer, [])
        own.append(outcome.message)
        if self._optimizers > 1 and _are_alike(own) and optimizer not in self.left_out:
            self.left_out[optimizer] = (
                f"{_MOST_ALIKE} trials of {optimizer} failed alike, and it is tried no more: {_cause(outcome.message)}"
            )

    @property
    def verdict(self) -> str:
        """Why the search should end, in a sentence; empty if it should not."""
        if len(self._non_finite) == _MOST_AT_ONE_STEP and len(set(self._non_finite)) == 1:
            return (
                f"of the last {_MOST_AT_ONE_STEP} trials, {self._non_finite[0]}, whatever their optimizer and rate: "
                "check the data of that step and the loss; Trainer(detect_anomaly=True) shows the operation"
            )
        if not self._failed:
            return ""
        cause = _cause(self._failed[-1][1])
        names = {name for name, _ in self._failed[-_MOST_ALIKE:]}
        if _are_alike([message for _, message in self._failed]) and (self._optimizers == 1 or len(names) > 1):
            return f"the last {_MOST_ALIKE} trials failed alike: {cause}"
        if len(self.left_out) >= self._optimizers > 1:
            return f"the trials of every optimizer failed alike, the last with: {cause}"
        if len(self._failed) >= _MOST_OF_ANY_KIND:
            return f"the last {len(self._failed)} trials failed, the last with: {cause}"
        return ""


def _are_alike(messages: list[str]) -> bool:
    return len(messages) >= _MOST_ALIKE and len({_what(message) for message in messages[-_MOST_ALIKE:]}) == 1


def _what(message: str) -> str:
    """Return the common part of messages of the same error: all except numbers, which may be the recipe's."""
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?(e[-+]?\d+)?", "0", message)


def _cause(message: str) -> str:
    """Return a message in one line."""
    words = " ".join(message.split())
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}..."
