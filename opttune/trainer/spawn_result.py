"""What a training in processes of its own (`ddp_spawn`) found out, handed to the process that asked for it."""

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
    """A place where a callback's copy in a spawned process leaves plain values for the callback itself.

    Lightning brings back the weights and the metrics of such a training, and nothing of its callbacks.

    Example:
        >>> handover = SpawnResult()
        >>> handover.leave({"stopped": True})  # in the same process there is nothing to hand over
        >>> handover.take() is None
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
        """Leave the values for the process that made this; nothing in that process itself."""
        if self.is_elsewhere:
            write_whole(self._path, json.dumps(values))

    def take(self) -> dict[str, Any] | None:
        """Return what was left since it was last asked for, or None."""
        if self.is_elsewhere or not self._path.exists():
            return None
        values: dict[str, Any] = json.loads(self._path.read_text())
        with suppress(OSError):
            self._path.unlink()
        return values
