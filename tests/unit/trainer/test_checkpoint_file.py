"""Checkpoints that are written to a local file, whatever the Trainer's CheckpointIO."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from opttune.trainer.checkpoint_file import saved_locally
from tests.support import models as m


class Elsewhere(TorchCheckpointIO):
    """Writes nothing here."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        pass


def test_the_file_is_there_at_once_and_the_trainers_own_way_is_back_afterwards(tmp_path: Path) -> None:
    own = AsyncCheckpointIO(Elsewhere())
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, plugins=[own],
    )  # fmt: skip
    trainer.fit(m.Net(), *m.loaders())
    with saved_locally(trainer):
        trainer.save_checkpoint(tmp_path / "here.ckpt")

    assert torch.load(tmp_path / "here.ckpt", weights_only=False)["global_step"] == 2
    assert trainer.strategy.checkpoint_io is own
