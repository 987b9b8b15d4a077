"""`Operation`: one thing to be written to MLflow, as it stands in a line of the spool."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Point = tuple[str, float, int, int]
"""Metric name, value, step, time in milliseconds."""
SYSTEM_PREFIX = "system/"
"""What MLflow knows metrics of the machine by; their steps are seconds, not optimizer steps."""


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
    """Set it running again and take the tags of its end away."""

    @property
    def is_batched(self) -> bool:
        """Whether MLflow takes many of them in one call."""
        return self in (Kind.METRICS, Kind.PARAMS, Kind.TAGS)


@dataclass(slots=True)
class Operation:
    """One thing to be written. Not to be changed once made; not frozen, which would double its cost.

    Attributes:
        kind: What to do.
        run: The run's key, or MLflow's id of it.
        data: What the kind needs, in values that JSON knows.
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
        """Read a line back; None where it is damaged, as by a kill in mid-write."""
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
