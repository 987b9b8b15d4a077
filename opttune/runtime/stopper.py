"""Trials that fail one after another: when to stop trying."""

import re

from opttune.outcome import Outcome, StopReason

_MOST_ALIKE = 3
"""As many trials in a row that fail with the same error end the search: the next would fail as well."""
_MOST_OF_ANY_KIND = 10
"""As many in a row end it whatever their errors: trials that fail before their first step cost nothing."""


class FailureStopper:
    """The trials that have failed in a row.

    Example:
        >>> failures = FailureStopper()
        >>> for number in range(3):
        ...     failures.note(Outcome(StopReason.FAILED, None, 0, 10, 0.0, f"OSError: no file {number}"))
        >>> failures.verdict
        'the last 3 trials failed alike: OSError: no file 2'
    """

    def __init__(self) -> None:
        self._messages: list[str] = []

    def note(self, outcome: Outcome) -> None:
        """Take what came of the latest trial."""
        has_failed = outcome.reason in (StopReason.FAILED, StopReason.OUT_OF_MEMORY)
        self._messages = [*self._messages, outcome.message] if has_failed else []

    @property
    def verdict(self) -> str:
        """Why the search should end, in a sentence; empty where it should not."""
        alike = {_what(message) for message in self._messages[-_MOST_ALIKE:]}
        if len(self._messages) >= _MOST_ALIKE and len(alike) == 1:
            return f"the last {_MOST_ALIKE} trials failed alike: {self._messages[-1]}"
        if len(self._messages) >= _MOST_OF_ANY_KIND:
            return f"the last {len(self._messages)} trials failed, the last with: {self._messages[-1]}"
        return ""


def _what(message: str) -> str:
    """Return what messages of the same error have in common: all but the numbers, which may be the recipe's."""
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?(e[-+]?\d+)?", "0", message)
