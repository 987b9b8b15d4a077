"""What modules keep in plain Python is part of a pause: a paused training equals the uninterrupted one, bit for bit."""

import copy
import itertools
import random
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.pause_check import check_pause
from opttune.training.workload import Workload

STEPS = 20
RECIPE = Recipe.from_dict({"optimizer": {"name": "adamw", "lr": 1e-2}, "schedule": "cosine"})


def dataset() -> TensorDataset:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sin().sum(1, keepdim=True))


def loaders() -> tuple[Any, Any]:
    # 8 steps to an epoch
    return DataLoader(dataset(), batch_size=8, shuffle=True), DataLoader(dataset(), batch_size=64)


class Plain(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))

    def loss(self, batch: Any) -> Any:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class CountsSteps(Plain):
    """Anneals by a counter, as a VAE its KL weight."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen += 1
        return self.loss(batch) * (1 + self.seen / 10)


class KeepsBatches(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.bank: deque[Any] = deque(maxlen=3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.bank.append(batch)
        return self.loss([torch.cat(part) for part in zip(*self.bank, strict=True)])


class HiddenTeacher(Plain):
    """The teacher is in a list, so that it is no submodule, and follows by moving averages."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = [copy.deepcopy(self.net)]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) + (self.net(batch[0]) - self.teacher[0](batch[0]).detach()).square().mean()

    def on_train_batch_end(self, *args: Any) -> None:
        for own, other in zip(self.teacher[0].parameters(), self.net.parameters(), strict=True):
            own.data.lerp_(other.data, 0.2)


class OwnGenerators(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.torch_random = torch.Generator().manual_seed(3)
        self.numpy_random = np.random.default_rng(3)
        self.python_random = random.Random(3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        noise = torch.randn(batch[0].shape, generator=self.torch_random) * self.numpy_random.random()
        return self.loss((batch[0] + noise * self.python_random.random(), batch[1]))


class MakesItsListAtTheEpochsStart(Plain):
    def on_train_epoch_start(self) -> None:
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.losses.append(loss.item())
        return loss * (1 + sum(self.losses) / len(self.losses))


class ThawsLater(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.net[0].requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        self.net[0].requires_grad_(self.current_epoch >= 1)


class ChangesItsLayers(Plain):
    """An option of a layer, and a buffer that no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.0)
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.scale += 0.1
        self.drop.p = min(0.5, 0.05 * self.global_step)
        return self.loss((self.drop(batch[0]), batch[1])) * self.scale


class SavesWhatIsTrained(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(4, 4).requires_grad_(False)

    def loss(self, batch: Any) -> Any:
        return super().loss((self.base(batch[0]), batch[1]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in [name for name in checkpoint["state_dict"] if name.startswith("base.")]:
            del checkpoint["state_dict"][name]


class HoldsWhatCannotBePickled(Plain):
    """A lock, a function and a nested class: constant, and the new training's own."""

    class Settings:
        factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.activation = lambda value: value * self.settings.factor
        self.settings = self.Settings()
        self.count: Counter[str] = Counter()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with self.lock:
            self.settings.factor += 0.1
            self.count["steps"] += 1
        return self.activation(self.loss(batch)) * (1 + self.count["steps"])


class Stepwise(pl.Callback):
    """A callback with a state of its own."""

    def __init__(self) -> None:
        self.done = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.done += 1
        pl_module.net[0].weight.data.mul_(1 + self.done / 1000)


class GrowsTheModule(pl.Callback):
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.extra = nn.BatchNorm1d(1)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        pl_module.extra(torch.randn(4, 1))


class Curriculum(pl.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is not None and self.trainer.training:
            self.calls += 1
        return [batch[0] * min(1.0, self.calls / 10), batch[1]]

    def train_dataloader(self) -> Any:
        return loaders()[0]

    def val_dataloader(self) -> Any:
        return loaders()[1]


def train(
    model: Any, data: Any, tmp_path: Path, pauses: tuple[int, ...], recipe: Recipe | None = RECIPE, **trainer: Any
) -> tuple[Outcome, dict[str, Any]]:
    """Train with pauses; return the outcome and the weights at the end."""
    ends = (*pauses, None)
    before: Path | None = None
    for step in ends:
        path = tmp_path / f"{len(pauses)}_{step}.ckpt"
        attempt = Attempt(
            recipe, "val_loss", 0, {"max_steps": STEPS, **trainer}, checkpoint=path, until_step=step, resume_from=before
        )
        outcome = run_attempt(attempt, Workload(model, data), NullListener())
        assert outcome.reason is (StopReason.COMPLETED if step is None else StopReason.PAUSED), outcome.traceback
        before = path
    return outcome, torch.load(path, weights_only=False)["state_dict"]


def assert_same_after_pauses(model: Any, data: Any, tmp_path: Path, **trainer: Any) -> None:
    whole, weights = train(model, data, tmp_path, (), **trainer)
    for pauses in ((5,), (8, 18)):
        outcome, resumed = train(model, data, tmp_path, pauses, **trainer)
        assert outcome.value == whole.value
        assert all(torch.equal(value, resumed[name]) for name, value in weights.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        CountsSteps, KeepsBatches, HiddenTeacher, OwnGenerators, MakesItsListAtTheEpochsStart, ThawsLater,
        ChangesItsLayers, SavesWhatIsTrained, HoldsWhatCannotBePickled,
    ],
)  # fmt: skip
def test_a_paused_training_equals_the_uninterrupted_one(model: Any, tmp_path: Path) -> None:
    assert_same_after_pauses(model, loaders, tmp_path)
    check = check_pause(Attempt(RECIPE, "val_loss", 0, {"max_steps": STEPS}), Workload(model, loaders))
    assert check.why_not == ""
    assert check.start_seconds is not None


@pytest.mark.parametrize("callback", [Stepwise(), GrowsTheModule(), GradientAccumulationScheduler({0: 1, 1: 2})])
def test_callbacks_continue_where_they_were(callback: Any, tmp_path: Path) -> None:
    assert_same_after_pauses(Plain, loaders, tmp_path, callbacks=[callback])


def test_a_data_module_continues_where_it_was(tmp_path: Path) -> None:
    assert_same_after_pauses(Plain, Curriculum, tmp_path)


def test_what_two_share_they_share_after_a_pause(tmp_path: Path) -> None:
    class Shares(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.buffer: list[float] = [1.0]
            self.agent = {"buffer": self.buffer}

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert self.agent["buffer"] is self.buffer
            self.buffer.append(0.1)
            return self.loss(batch) * sum(self.agent["buffer"])

    assert_same_after_pauses(Shares, loaders, tmp_path)


class DrawsFromAnIterator(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.factors = (1 + number / 10 for number in itertools.count())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * next(self.factors)


class FailsWhenItIsResumed(Plain):
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise KeyError("ema")


class ForgetsByItself(Plain):
    """Keeps its state where no pause can find it."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 0:
            OUTSIDE.clear()
        OUTSIDE.append(batch_idx)
        return self.loss(batch) * len(OUTSIDE)

    def on_train_start(self) -> None:
        OUTSIDE.clear()


OUTSIDE: list[int] = []


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (DrawsFromAnIterator, "DrawsFromAnIterator.factors cannot be stored with a pause (TypeError"),
        (FailsWhenItIsResumed, "a training that is resumed fails: KeyError: 'ema'"),
        (ForgetsByItself, "a resumed training differs from one without a break: net.0.weight"),
    ],
)
def test_what_cannot_be_paused_is_found_before_and_said(model: Any, word: str) -> None:
    attempt = Attempt(RECIPE, "val_loss", 0, {"max_steps": STEPS})
    assert word in check_pause(attempt, Workload(model, loaders)).why_not


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
def test_a_callback_that_averages_weights_is_not_paused_and_trains_its_full_length() -> None:
    class Normed(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    trainer = {"max_epochs": 4, "callbacks": [StochasticWeightAveraging(1e-2, swa_epoch_start=0.5)]}
    attempt = Attempt(RECIPE, "val_loss", 0, trainer)
    assert "StochasticWeightAveraging" in check_pause(attempt, Workload(Normed, loaders)).why_not
    # the epoch in which it reads the statistics of batch norm trains nothing
    outcome = run_attempt(attempt, Workload(Normed, loaders), NullListener())
    assert (outcome.reason, outcome.steps, outcome.total_steps) == (StopReason.COMPLETED, 32, 32), outcome.traceback


class KeepsItsOptimizer(Plain):
    """Reads the rate of its own optimizer, as modules that log it do."""

    def configure_optimizers(self) -> Any:
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        return self.optimizer

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * (1 + self.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("recipe", [RECIPE, None])
def test_a_module_that_keeps_its_optimizer_is_paused(recipe: Recipe | None, tmp_path: Path) -> None:
    whole, _ = train(KeepsItsOptimizer, loaders, tmp_path, (), recipe)
    paused, _ = train(KeepsItsOptimizer, loaders, tmp_path, (5,), recipe)
    assert paused.value == whole.value


class Relabels(Plain):
    """Writes into its dataset at the end of each epoch."""

    def on_train_epoch_end(self) -> None:
        x, y = self.trainer.train_dataloader.dataset.tensors
        with torch.no_grad():
            y.copy_(0.5 * y + 0.5 * self.net(x))


class OwnBatches(torch.utils.data.Sampler[list[int]]):
    """Draws the batches of an epoch from a generator that no loader knows."""

    def __init__(self) -> None:
        self.random = np.random.RandomState(3)
        self.weight = 1.0

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Any:
        order = self.random.permutation(64) if self.weight < 3 else np.arange(64)
        yield from order.reshape(8, 8).tolist()


class ChangesItsSampler(Plain):
    def on_train_epoch_end(self) -> None:
        self.trainer.train_dataloader.batch_sampler.weight += 1


def test_what_the_training_writes_into_its_dataset_is_there_after_a_pause(tmp_path: Path) -> None:
    assert_same_after_pauses(Relabels, loaders, tmp_path)


def test_a_sampler_continues_where_it_was(tmp_path: Path) -> None:
    def data() -> tuple[Any, Any]:
        return DataLoader(dataset(), batch_sampler=OwnBatches()), loaders()[1]

    assert_same_after_pauses(Plain, data, tmp_path)
    assert_same_after_pauses(ChangesItsSampler, data, tmp_path)
