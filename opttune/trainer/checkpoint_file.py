"""Write a Trainer's checkpoint to a local file, piece by piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from opttune.trainer.internals import is_sharded


class _LocalFile:
    """Takes the place of a strategy's `CheckpointIO`.

    torch copies one tensor after another from its device into the file. Lightning's own puts the whole file together
    in main memory first, twice; a user's may write later, or elsewhere.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; a full disk gives an OSError."""
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)


@contextmanager
def saved_locally(trainer: Any) -> Iterator[None]:
    """Let `trainer.save_checkpoint` write to a local file meanwhile; sharded weights are written by their strategy."""
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
