"""What a LightningModule or its Trainer may use: one row each, with the module or the settings that use it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader

from tests.support.models import BareNet, Data, FrozenNet, GanNet, LateNet, ManualNet, Net, ScheduledNet, dataset
from tests.support.models import train_loader as make_train_loader
from tests.support.models import val_loader as make_val_loader
from tests.support.search_models import Classifier, streamed


@dataclass(frozen=True)
class Feature:
    """A row of the table of features.

    Attributes:
        words: What is used.
        model: A LightningModule class.
        data: What goes to `Trainer.fit`.
        trainer: Arguments of the Trainer.
        length: The length of the training.
        monitor: The metric that counts.
        refused: What the refusal says; empty where it works.
        note: What its users should know.
    """

    words: str
    model: Callable[[], Any] = Net
    data: Any = Data
    trainer: Mapping[str, Any] = field(default_factory=dict)
    length: Mapping[str, int] = field(default_factory=lambda: {"max_steps": 8})
    monitor: str = "val_loss"
    refused: str = ""
    note: str = ""


class Counting(pl.Callback):
    """A callback of the user's own, with state."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        assert self.batches == trainer.fit_loop.epoch_loop.total_batch_idx + 1


class Compiled(Net):
    """With a compiled part; the back end that compiles nothing needs no compiler on the machine."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(self.net, backend="eager")


class Hyperparameters(Net):
    def __init__(self, width: int = 8, parts: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.save_hyperparameters()


class BatchesOf(pl.LightningDataModule):
    batch_size = 4

    def train_dataloader(self) -> Any:
        return DataLoader(dataset(), batch_size=self.batch_size)

    def val_dataloader(self) -> Any:
        return make_val_loader()


class Annealed(Net):
    """Keeps a counter in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen += 1
        return super().training_step(batch, batch_idx) * self.seen


class HoldsAGenerator(Net):
    def __init__(self) -> None:
        super().__init__()
        self.factors = (1.0 for _ in range(1000))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) * next(self.factors)


class StepsItsScheduler(Net):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step(epoch=self.current_epoch)


class WarmsUp(Net):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 1e-5
        optimizer.step(closure=optimizer_closure)


class Lazy(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(2))


class Thaws(Net):
    """Adds a layer to its optimizer while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.net[0].requires_grad_(False)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([one for one in self.parameters() if one.requires_grad], lr=self.lr)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == 4 and not self.net[0].weight.requires_grad:
            self.net[0].requires_grad_(True)
            self.trainer.optimizers[0].add_param_group({"params": list(self.net[0].parameters())})


class SavesAPart(Net):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"].pop("net.0.weight")


class BringsCallbacks(Net):
    def configure_callbacks(self) -> Any:
        return [ModelCheckpoint(monitor="val_loss"), LearningRateMonitor(), LearningRateFinder()]


class Draws(Net):
    """Draws with its logger."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.logger.experiment.add_histogram("weights", self.net[0].weight, self.global_step)


class SeveralValidations(Net):
    def val_dataloader(self) -> Any:
        return [make_val_loader(), make_val_loader()]

    def train_dataloader(self) -> Any:
        return make_train_loader()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))


class Forked(Net):
    """Logs the loss of its training steps twice: as it is, and as a mean."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.loss(batch), on_step=True, on_epoch=True)


class Clipping(Net):
    """Clips its gradients itself."""

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")


class OwnStep(Net):
    """Steps its one optimizer in its own hook."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class WithoutValidation(Net):
    validation_step = None


class Nothing(Net):
    """Logs no metric at all."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


class Normed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


class NothingToTrain(Net):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


def mixed_loaders() -> Any:
    return {"a": make_train_loader(), "b": make_train_loader()}, make_val_loader()


def combined_loaders() -> Any:
    train, val = mixed_loaders()
    return CombinedLoader(train, "min_size"), val


class SeveralTrainings(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch["a"]) + self.loss(batch["b"])


FEATURES = (
    Feature("your own callbacks, with state", trainer={"callbacks": [Counting()]},
            note="each training gets a copy"),
    Feature(
        "`ModelCheckpoint`", trainer={"callbacks": [ModelCheckpoint(monitor="val_loss", dirpath="checkpoints")]},
        note="in `trainer=`; in a LightningCLI project opttune keeps the checkpoints",
    ),
    Feature("`EarlyStopping`", trainer={"callbacks": [EarlyStopping("val_loss")]}),
    Feature("`LearningRateMonitor`", trainer={"callbacks": [LearningRateMonitor()]},
            note="it logs nothing; MLflow has the rate of every step"),
    Feature("`LearningRateFinder`", trainer={"callbacks": [LearningRateFinder()]}, note="left out, with a note"),
    Feature("`BatchSizeFinder`", Net, BatchesOf, trainer={"callbacks": [BatchSizeFinder()]},
            note="left out, with a note"),
    Feature("`OnExceptionCheckpoint`", trainer={"callbacks": [OnExceptionCheckpoint(".")]},
            note="each training starts at step 0, whatever checkpoints exist"),
    Feature("`configure_callbacks`", BringsCallbacks),
    Feature("state in plain Python attributes", Annealed, note="a pause saves it"),
    Feature("state that cannot be pickled", HoldsAGenerator, note="trained without pauses; a warning says why"),
    Feature("a checkpoint with a part of the weights", SavesAPart, note="a pause saves all of them"),
    Feature("its own `lr_scheduler_step`", StepsItsScheduler, note="replaced, with the scheduler"),
    Feature("code that sets the learning rate itself", WarmsUp, refused="learning rate of step 1",
            note="the message names the line"),
    Feature("lazy layers", Lazy, note="initialized with the first batch"),
    Feature("parameter groups added in a hook", Thaws, note="they follow the recipe's curve at their own ratio"),
    Feature("`self.logger`", Draws, note="accepts any call and stores nothing, unless `trainer=` has a logger"),
    Feature("`StochasticWeightAveraging`", trainer={"callbacks": [StochasticWeightAveraging(1e-2)]},
            length={"max_epochs": 2}),
    Feature("gradient accumulation", trainer={"accumulate_grad_batches": 2}, note="the Trainer's setting is kept"),
    Feature("`GradientAccumulationScheduler`", trainer={"callbacks": [GradientAccumulationScheduler({0: 2})]},
            note="with `max_steps`"),
    Feature("`GradientAccumulationScheduler` and `max_epochs`", length={"max_epochs": 2},
            trainer={"callbacks": [GradientAccumulationScheduler({0: 2})]}, refused="miscounts its steps"),
    Feature("clipping by norm in the Trainer", trainer={"gradient_clip_val": 0.5},
            note="the Trainer's setting is kept"),
    Feature("clipping by value in the Trainer",
            trainer={"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}),
    Feature("`configure_gradient_clipping`", Clipping),
    Feature("`precision=\"bf16-mixed\"`", trainer={"precision": "bf16-mixed"}),
    Feature("`torch.compile`", Compiled),
    Feature("`save_hyperparameters`", Hyperparameters),
    Feature("`configure_model`", LateNet),
    Feature("batch norm", Normed),
    Feature("a frozen backbone", FrozenNet, note="it stays frozen"),
    Feature("its own scheduler", ScheduledNet, note="replaced, with the optimizer"),
    Feature("no `configure_optimizers`", BareNet),
    Feature("its own `optimizer_step`", OwnStep),
    Feature("several validation loaders", SeveralValidations, None, monitor="val_loss/dataloader_idx_0",
            note="name one in `monitor`"),
    Feature("several train loaders", SeveralTrainings, mixed_loaders),
    Feature("several train loaders in a CombinedLoader", SeveralTrainings, combined_loaders),
    Feature("`val_check_interval`", trainer={"val_check_interval": 2}),
    Feature("`check_val_every_n_epoch`", trainer={"check_val_every_n_epoch": 3}, length={"max_epochs": 4},
            note="a validation follows the last step in any case"),
    Feature("`max_epochs`", length={"max_epochs": 2}),
    Feature("`limit_train_batches`", trainer={"limit_train_batches": 2}, length={"max_epochs": 2}),
    Feature("`reload_dataloaders_every_n_epochs`", trainer={"reload_dataloaders_every_n_epochs": 1},
            length={"max_epochs": 2}),
    Feature("an IterableDataset and `max_steps`", Classifier, streamed),
    Feature("an IterableDataset and `max_epochs`", Classifier, streamed, length={"max_epochs": 2},
            refused="no length"),
    Feature("metrics logged with `on_step` and `on_epoch`", Forked, monitor="val_epoch",
            note="name the variant: `val_epoch`"),
    Feature("a metric of the training epoch as monitor", Forked, monitor="loss_epoch"),
    Feature("no `validation_step`", WithoutValidation, refused="was never logged",
            note="log a metric in `training_step` and name it in `monitor`"),
    Feature("no metric logged", Nothing, refused="was never logged"),
    Feature("manual optimization", ManualNet),
    Feature("manual optimization and `max_epochs`", ManualNet, length={"max_epochs": 2}, refused="as max_steps"),
    Feature("several optimizers under automatic optimization", GanNet, refused="trains with 2 optimizers"),
    Feature("no trainable parameter", NothingToTrain, refused="no trainable"),
)  # fmt: skip
