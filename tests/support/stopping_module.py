"""A module that notes each training and stops its process, once, in a training of a chosen kind."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.search_models import CLASSES, FEATURES, Classifier

STOP, NOTES = Path("stop.json"), Path("notes.jsonl")
OWN_RATE = 1e-4


class Stopping(Classifier):
    """Stops where `stop.json` says: the seed, whether with the module's own optimizer, after which step, the signal."""

    def __init__(self) -> None:
        super().__init__()
        # every training is seeded before its module is made
        self.seed = torch.initial_seed()
        self.net = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, CLASSES))

    def on_train_start(self) -> None:
        self.is_own = self.trainer.optimizers[0].param_groups[0]["lr"] == OWN_RATE
        note = {"seed": self.seed, "own": self.is_own, "start": self.trainer.global_step}
        with NOTES.open("a") as notes:
            notes.write(json.dumps(note) + "\n")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if STOP.exists():
            stop = json.loads(STOP.read_text())
            is_here = (stop["seed"], stop["own"]) == (self.seed, self.is_own)
            if is_here and self.trainer.global_step == stop["step"]:
                STOP.unlink()
                os.kill(os.getpid(), signal.Signals[stop["signal"]])
        loss: Tensor = super().training_step(batch, batch_idx)
        return loss


def read_notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / NOTES).read_text().splitlines()]
