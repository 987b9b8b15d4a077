"""Write a Trainer's checkpoint to a local file, piece by piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from opttune.trainer.internals import is_sharded


class _LocalFile:
    """Replaces a strategy's `CheckpointIO`.

    torch copies one tensor after another from its device into the file. Lightning's own class first builds the whole
    file in main memory, twice; a user's class may write later, or elsewhere.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; a full disk gives an OSError."""
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)


@contextmanager
def saved_locally(trainer: Any) -> Iterator[None]:
    """Let `trainer.save_checkpoint` write to a local file inside the context; a strategy writes sharded weights."""
    strategy = trainer.strategy
    if is_sharded(trainer):
        yield
        return
    before = strategy.checkpoint_io
    strategy.checkpoint_io = _LocalFile()
    try:
        yield
    finally:
        strategy.checkpoint_io = before
