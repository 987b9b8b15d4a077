"""Results that a spawned training process (`ddp_spawn`) returns to its parent process."""

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from opttune.shared_folder import write_whole


class SpawnResult:
    """A file by which the copy of a callback in a spawned process returns plain values to the callback itself.

    Lightning returns the weights and the metrics of such a training, but nothing of its callbacks.

    Example:
        >>> result = SpawnResult()
        >>> result.leave({"stopped": True})  # in the same process it does nothing
        >>> result.take() is None
        True
    """

    def __init__(self) -> None:
        self._path = Path(tempfile.gettempdir()) / f"opttune-{uuid4().hex}.json"
        self._owner = os.getpid()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SpawnResult":
        return SpawnResult()

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is the copy in a spawned process."""
        return os.getpid() != self._owner

    def leave(self, values: Mapping[str, Any]) -> None:
        """Leave the values for the process that created this object; in that process do nothing."""
        if self.is_elsewhere:
            write_whole(self._path, json.dumps(values))

    def take(self) -> dict[str, Any] | None:
        """Return the values since the last call, or None."""
        if self.is_elsewhere or not self._path.exists():
            return None
        values: dict[str, Any] = json.loads(self._path.read_text())
        with suppress(OSError):
            self._path.unlink()
        return values
