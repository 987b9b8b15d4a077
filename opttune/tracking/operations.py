"""`Operation`: one write to MLflow, stored as one line of the spool."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Point = tuple[str, float, int, int]
"""Metric name, value, step, time in milliseconds."""
SYSTEM_PREFIX = "system/"
"""MLflow's prefix for metrics of the machine; their steps are seconds, not optimizer steps."""


class Kind(StrEnum):
    """What an operation does to its run."""

    OPEN = "open"
    """Find the run, or create it."""
    METRICS = "metrics"
    PARAMS = "params"
    TAGS = "tags"
    DATASETS = "datasets"
    ARTIFACT = "artifact"
    TEXT = "text"
    END = "end"
    """Set the final status."""
    REOPEN = "reopen"
    """Set it running again and remove the tags of its end."""

    @property
    def is_batched(self) -> bool:
        """Whether MLflow accepts many of them in one call."""
        return self in (Kind.METRICS, Kind.PARAMS, Kind.TAGS)


@dataclass(slots=True)
class Operation:
    """One write. Treat it as immutable; a frozen dataclass would double the cost of making one.

    Attributes:
        kind: What to do.
        run: The run's key, or MLflow's id of it.
        data: The data for this kind, in values that JSON supports.
    """

    kind: Kind
    run: str
    data: Any

    def to_line(self) -> bytes:
        r"""Return the operation as one line of JSON.

        Example:
            >>> Operation(Kind.TAGS, "r1", {"a": "b"}).to_line()
            b'["tags","r1",{"a":"b"}]\n'
        """
        return json.dumps([self.kind, self.run, self.data], separators=(",", ":"), default=_plain).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Operation | None":
        """Read a line back; None if it is damaged, for example by a kill while it was written."""
        try:
            kind, run, data = json.loads(line)
            return cls(Kind(kind), run, data)
        except (ValueError, TypeError):
            return None


def _plain(value: object) -> object:
    try:
        return float(value)  # type: ignore[arg-type]  # numbers of numpy and torch
    except (TypeError, ValueError):
        return str(value)
