"""Tiny modules and data for searches; the command loads them by this file's path."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

FEATURES, CLASSES, BATCHES = 8, 4, 8


def make_points(count: int, seed: int) -> TensorDataset:
    """Points around one centre for each class."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    points = nn.functional.one_hot(labels, FEATURES) * 2.0 + torch.randn(count, FEATURES, generator=random)
    return TensorDataset(points, labels)


def loaders() -> tuple[Any, Any]:
    train = DataLoader(make_points(16 * BATCHES, 0), batch_size=16, shuffle=True)
    return train, DataLoader(make_points(64, 1), batch_size=64)


class Points(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loaders()[0]

    def val_dataloader(self) -> Any:
        return loaders()[1]


class PlPoints(pytorch_lightning.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loaders()[0]

    def val_dataloader(self) -> Any:
        return loaders()[1]


class _Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Any:
        return iter(make_points(128, 0))


def streamed() -> tuple[Any, Any]:
    return DataLoader(_Stream(), batch_size=16), loaders()[1]


class _Steps:
    """What the classifiers of both names of Lightning share."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        loss = cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        output = self.net(batch[0])
        self.log("val_loss", cross_entropy(output, batch[1]))
        self.log("val_acc", (output.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self: Any) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def make_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))


class Classifier(_Steps, pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()


class PlClassifier(_Steps, pytorch_lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()


def make_classifier() -> Classifier:
    return Classifier()


classifier = Classifier()
number = 3


class NeedsWidth(Classifier):
    def __init__(self, width: int) -> None:
        super().__init__()


class Slow(Classifier):
    """A step takes as long as a person needs to press Ctrl-C."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        time.sleep(0.03)
        return super().training_step(batch, batch_idx)


INSPECTED, INSPECTED_STEPS = 4, 3
"""Trainings of an inspection, and the steps of the longest."""


class Noting(Classifier):
    """Notes each training that ends in `moves.jsonl`, and stops itself where `stop.json` says: both where it runs.

    `stop.json` holds how many trainings have ended before, the step, or -1 for the end, and the signal.
    """

    def on_train_start(self) -> None:
        rates = self.trainer.optimizers[0].param_groups[0]
        # on the Trainer: a pause carries attributes of the module to its next part
        self.trainer.move = {
            "start": self.trainer.global_step, "lr": rates["lr"], "weight_decay": rates["weight_decay"],
        }  # fmt: skip

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self._stop_at(self.trainer.global_step)
        return super().training_step(batch, batch_idx)

    def on_train_end(self) -> None:
        self._stop_at(-1)
        with open("moves.jsonl", "a") as notes:
            notes.write(json.dumps({**self.trainer.move, "end": self.trainer.global_step}) + "\n")

    def _stop_at(self, step: int) -> None:
        order = Path("stop.json")
        if order.exists() and json.loads(order.read_text())[:2] == [len(read_moves()), step]:
            number = json.loads(order.read_text())[2]
            order.unlink()
            os.kill(os.getpid(), signal.Signals[number])


def read_moves(folder: Path = Path()) -> list[dict[str, Any]]:
    """Return the trainings that `Noting` has noted, without those of the inspection, of a few steps."""
    notes = folder / "moves.jsonl"
    moves = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    return [move for move in moves if move["end"] > INSPECTED_STEPS]


class SlowNoting(Noting):
    """Notes each training that ends, and takes a while for each."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        time.sleep(0.03)
        return super().training_step(batch, batch_idx)


class Lingering(Classifier):
    """In the phase that `phase.txt` names it touches `reached` and stays there for a minute; the first time alone."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self._linger("fit")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._linger("validation")
        super().validation_step(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._linger("checkpoint")

    def _linger(self, phase: str) -> None:
        # after the inspection
        if self.trainer.global_step > 10 and Path("phase.txt").read_text() == phase and not Path("reached").exists():
            Path("reached").touch()
            time.sleep(60)


class Talkative(Classifier):
    def on_train_start(self) -> None:
        print("the user's own words")


class FailsAboveOneHundredth(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        if self.trainer.global_step > 3 and lr > 0.01:
            raise RuntimeError(f"lr {lr:g} is too much for me")
        return super().training_step(batch, batch_idx)


class FailsInItsFifthStep(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_step == 4:
            raise RuntimeError("no fifth step")
        return super().training_step(batch, batch_idx)


class FailsAtOnce(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise RuntimeError("never any step")


class LogsNothing(Classifier):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_error", torch.tensor(1.0))


class Manual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class TwoOptimizers(Classifier):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[0], self.net[2])]


class WithoutOptimizer(Classifier):
    def configure_optimizers(self) -> None:
        return None


class Lucky(Noting):
    """Its value is its learning rate; with another seed than 0 it is the lower the higher the rate."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        luck = 1.0 if torch.initial_seed() == 0 else -3.0
        self.log("val_loss", luck * self.trainer.move["lr"])
