"""Tiny LightningModules, data and Trainers, for tests with the real thing.

The full length of one epoch is 8 batches of 4 samples; the data are the same each time.
"""

from typing import Any, ClassVar

import lightning.pytorch as pl
import pytorch_lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from opttune.trainer.namespaces import AnyCallback

BATCHES = 8
SAMPLES = 4 * BATCHES


def dataset(samples: int = SAMPLES) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 4, generator=generator)
    return TensorDataset(x, (x.sum(1) > 0).long())


def train_loader(samples: int = SAMPLES, shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(dataset(samples), batch_size=4, shuffle=shuffle)


def val_loader() -> DataLoader[Any]:
    return DataLoader(dataset(8), batch_size=4)


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    return train_loader(), val_loader()


class Endless(IterableDataset[Any]):
    """A stream without a length."""

    def __iter__(self) -> Any:
        while True:
            yield from dataset()


def stream_loader() -> DataLoader[Any]:
    return DataLoader(Endless(), batch_size=4)


class _Net:
    """What the small classifier is in both namespaces of Lightning."""

    def __init__(self, lr: float = 1e-4) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def loss(self, batch: Any) -> Any:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Net(_Net, pl.LightningModule):
    """A classifier with a deliberately slow optimizer, under the name `lightning`."""


class OtherNet(_Net, pytorch_lightning.LightningModule):
    """The same under the name `pytorch_lightning`."""


class ScriptedNet(Net):
    """Returns the losses that it is told to, one a batch; the last one for ever."""

    losses: ClassVar[list[float]] = [1.0]

    def __init__(self, losses: list[float] | None = None) -> None:
        super().__init__()
        self.script = losses or self.losses
        self.batches = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        value = self.script[min(self.batches, len(self.script) - 1)]
        self.batches += 1
        loss = 0 * self.loss(batch) + value
        self.log("train_loss", loss)
        return loss


class NanAtStep7(ScriptedNet):
    losses: ClassVar[list[float]] = [*[0.7] * 6, float("nan")]


class DictNet(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.loss(batch), "more": torch.zeros(3)}


class SkippingNet(Net):
    """Returns no loss for every other batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 2 else self.loss(batch)


class FailingNet(Net):
    """Raises what it is told to, at its third batch."""

    error: ClassVar[BaseException] = RuntimeError("a bug of the user's own")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 2:
            raise self.error
        return self.loss(batch)


class ManualNet(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class GanNet(Net):
    """Two optimizers, as for a generator and a critic."""

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.net[0].parameters()), torch.optim.SGD(self.net[2].parameters(), lr=0.1)


class FrozenNet(Net):
    """A backbone whose gradients are off."""

    def __init__(self) -> None:
        super().__init__()
        self.net[0].requires_grad_(False)


class HeadNet(Net):
    """A backbone that is trainable, but that the module's own optimizer leaves alone."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net[2].parameters(), lr=self.lr)


class ScheduledNet(Net):
    """With its own scheduler, as a dict."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}


class LateNet(Net):
    """Makes its layers in `configure_model`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = None

    def configure_model(self) -> None:
        if self.net is None:
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


class BareNet(pl.LightningModule):
    """Without `configure_optimizers`, as for the LightningCLI."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


class Data(pl.LightningDataModule):
    """The data as a LightningDataModule."""

    def train_dataloader(self) -> Any:
        return train_loader()

    def val_dataloader(self) -> Any:
        return val_loader()


class Watch(AnyCallback):
    """Notes what happens: the rates used at each step, the steps with a validation, the batches validated."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.validated_at: list[int] = []
        self.validation_batches = 0

    @property
    def lrs(self) -> list[float]:
        return [max(rates) for rates in self.rates]

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.validated_at.append(trainer.global_step)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        self.validation_batches += not trainer.sanity_checking


def quiet_trainer(*callbacks: Any, namespace: Any = pl, **settings: Any) -> Any:
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return namespace.Trainer(**{**quiet, **settings}, callbacks=list(callbacks))
