"""Eight tasks of about 1,500 steps whose modules bring a good recipe of their own.

Each recipe is what its field writes first, with the learning rate chosen by hand among two or three, seed 0. It is
good, not the best there is. The rates tried, and the final validation losses:

- vision, SGD: 0.03 0.0810, **0.1** 0.0751, 0.3 0.0877
- table, Adam: 0.001 0.154, **0.003** 0.139
- text, AdamW: 0.001 2.405, **0.003** 2.047
- fine-tuning, AdamW: 0.0003 0.546, **0.001** 0.502
- sequence, Adam: 0.003 0.1111, 0.01 0.0592, **0.03** 0.0147
- forecast, Adam: 0.003 0.0668, 0.01 0.0492, **0.03** 0.0448
- transfer, SGD: 0.01 0.0455, **0.03** 0.0350, 0.1 0.0429
- signal, AdamW: 0.001 0.862, **0.003** 0.792, 0.01 0.797

The split: on the five of `LONG_DEVELOP` the search may be developed, the three of `LONG_REPORT` are only reported on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from search_bench.data import mnist1d
from search_bench.long_data import (
    KINDS,
    halves_of_digits,
    has_mnist,
    images,
    mackey_glass,
    narma,
    python_tokens,
    python_topics,
    table,
)
from search_bench.long_networks import (
    GPT,
    Forecaster,
    Recurrent,
    SignalTransformer,
    Tagger,
    resnet,
    tabular_resnet,
)
from search_bench.pretrained import pretrained_resnet, pretrained_trunk
from search_bench.tasks import LiveTask, Loaders, Task, loaders, token_loss


class WithRecipe(Task):
    """A module that brings a recipe, whose three knobs its user may turn.

    Args:
        network: The network.
        loss: Of its output and the targets.
        lr: Learning rate.
        weight_decay: Weight decay.
        warmup: Share of the training in which the rate rises.
    """

    def __init__(self, network: nn.Module, loss: Any, lr: float, weight_decay: float, warmup: float) -> None:
        super().__init__(network, loss)
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return int(self.trainer.estimated_stepping_batches)

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps in which the rate rises."""
        return round(self.warmup * self.total_steps)

    def by_step(self, optimizer: torch.optim.Optimizer, after: Callable[[float], float]) -> dict[str, Any]:
        """Return what Lightning wants for a rate that rises linearly and then follows a function of the rest's share.

        Args:
            optimizer: The optimizer.
            after: Share of the steps after the warmup -> factor of the rate.
        """
        warm, total = self.warmup_steps, self.total_steps

        def factor(step: int) -> float:
            return (step + 1) / (warm + 1) if step < warm else after(min(1.0, (step - warm) / max(1, total - warm)))

        scheduler = lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Vision(WithRecipe):
    """A ResNet on images that are shifted at random, with SGD, Nesterov momentum and a cosine."""

    def __init__(self, lr: float = 0.1, weight_decay: float = 5e-4, warmup: float = 0.0) -> None:
        super().__init__(resnet(), nn.functional.cross_entropy, lr, weight_decay, warmup)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch that is shifted by up to two pixels; small images are left where they are."""
        pixels, labels = batch
        far = pixels.shape[-1] // 14 + 1
        moves = torch.randint(-far + 1, far, (2,)).tolist()
        return super().training_step((pixels.roll(moves, (2, 3)), labels), batch_idx)

    def configure_optimizers(self) -> Any:
        """Return SGD and its schedule."""
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
        )
        if self.warmup_steps:
            return self.by_step(optimizer, lambda share: (1 + cos(pi * share)) / 2)
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Text(WithRecipe):
    """A GPT over characters with nanoGPT's AdamW: matrices decay, the rate falls to a tenth."""

    def __init__(self, lr: float = 3e-3, weight_decay: float = 0.1, warmup: float = 0.05) -> None:
        super().__init__(GPT(), token_loss, lr, weight_decay, warmup)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule."""
        groups = [
            {"params": [p for p in self.parameters() if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in self.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.99))
        return self.by_step(optimizer, lambda share: 0.1 + 0.9 * (1 + cos(pi * share)) / 2)


class Table(WithRecipe):
    """A tabular ResNet with Adam, whose rate falls when the validation loss no longer does."""

    def __init__(self, lr: float = 3e-3, weight_decay: float = 1e-5, warmup: float = 0.0) -> None:
        super().__init__(tabular_resnet(16), nn.functional.mse_loss, lr, weight_decay, warmup)

    def configure_optimizers(self) -> Any:
        """Return Adam and its schedules."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        plateau = {
            "scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2),
            "monitor": "val_loss",
        }
        if not self.warmup_steps:
            return {"optimizer": optimizer, "lr_scheduler": plateau}
        rise = lr_scheduler.LinearLR(optimizer, 1 / self.warmup_steps, total_iters=self.warmup_steps)
        return [optimizer], [{"scheduler": rise, "interval": "step"}, plateau]


class FineTuning(WithRecipe):
    """A pretrained transformer that learns the kinds of tokens, with AdamW, a linear warmup and a linear fall."""

    def __init__(self, lr: float = 1e-3, weight_decay: float = 0.01, warmup: float = 0.1) -> None:
        super().__init__(Tagger(pretrained_trunk(), len(KINDS)), token_loss, lr, weight_decay, warmup)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        return self.by_step(optimizer, lambda share: 1 - share)


class Sequence(WithRecipe):
    """A GRU that follows a system of order ten, with Adam at a rate that falls by steps."""

    def __init__(self, lr: float = 3e-2, weight_decay: float = 1e-6, warmup: float = 0.0) -> None:
        super().__init__(Recurrent(), _later_error, lr, weight_decay, warmup)

    def configure_optimizers(self) -> Any:
        """Return Adam and its schedule."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        return self.by_step(optimizer, lambda share: 1.0 if share < 0.5 else 0.3 if share < 0.8 else 0.1)


class Forecast(WithRecipe):
    """An LSTM that forecasts a chaotic series, with Adam and a cosine."""

    def __init__(self, lr: float = 3e-2, weight_decay: float = 0.0, warmup: float = 0.0) -> None:
        super().__init__(Forecaster(), nn.functional.mse_loss, lr, weight_decay, warmup)

    def configure_optimizers(self) -> Any:
        """Return Adam and its schedule."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        return self.by_step(optimizer, lambda share: (1 + cos(pi * share)) / 2)


class Transfer(WithRecipe):
    """A ResNet that knows five digits and learns the five others, with SGD at a rate that falls by steps."""

    def __init__(self, lr: float = 3e-2, weight_decay: float = 1e-4, warmup: float = 0.0) -> None:
        super().__init__(pretrained_resnet(), nn.functional.cross_entropy, lr, weight_decay, warmup)

    def configure_optimizers(self) -> Any:
        """Return SGD and its schedule."""
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=self.weight_decay)
        return self.by_step(optimizer, lambda share: 1.0 if share < 0.5 else 0.1 if share < 0.8 else 0.01)


class Signal(WithRecipe):
    """A transformer on signals that are shifted and noisy, with AdamW, a warmup and a cosine."""

    def __init__(self, lr: float = 3e-3, weight_decay: float = 0.05, warmup: float = 0.05) -> None:
        super().__init__(SignalTransformer(), nn.functional.cross_entropy, lr, weight_decay, warmup)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch that is shifted by up to four points and has noise."""
        signals, labels = batch
        shifted = signals.roll(int(torch.randint(-4, 5, ())), -1)
        return super().training_step((shifted + 0.05 * torch.randn_like(shifted), labels), batch_idx)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        return self.by_step(optimizer, lambda share: (1 + cos(pi * share)) / 2)


def _later_error(outputs: Tensor, targets: Tensor) -> Tensor:
    # the first outputs depend on inputs that are not seen
    return nn.functional.mse_loss(outputs[:, 10:], targets[:, 10:])


def _images() -> Loaders:
    return loaders(*images(), batch=32 if has_mnist() else 11)


def _half_of_the_digits() -> Loaders:
    return loaders(*halves_of_digits()[1], batch=32 if has_mnist() else 6)


def _topics() -> Loaders:
    train, val = python_topics(49, 3_200, 400)
    return loaders(train[:, :-1], train[:, 1:], val[:, :-1], val[:, 1:], batch=8)


def _tokens() -> Loaders:
    return loaders(*python_tokens(), batch=16)


@dataclass(frozen=True, slots=True)
class LongTask(LiveTask):
    """A task whose module brings a recipe.

    Attributes:
        ranges: Where an Optuna user would search the model's arguments.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def own(self) -> dict[str, float]:
        """The recipe's learning rate, weight decay and warmup: the defaults of the model's arguments."""
        return {name: argument.default for name, argument in signature(self.model).parameters.items()}


RANGES = {"lr": (1e-5, 1e-1), "weight_decay": (1e-6, 1e-1), "warmup": (0.0, 0.2)}
"""Where an Optuna user searches Adam and AdamW."""
VISION = "long_vision" if has_mnist() else "long_vision_digits"
TRANSFER = "long_transfer" if has_mnist() else "long_transfer_digits"
"""Where MNIST is absent the task is another one, so it has another name."""
LONG_TASKS = {
    VISION: LongTask(Vision, _images, 12, 1_536 if has_mnist() else 1_560, ranges={**RANGES, "lr": (1e-4, 1.0)}),
    "long_table": LongTask(Table, lambda: loaders(*table(), batch=128), 25, 1_600, ranges=RANGES),
    "long_forecast": LongTask(
        Forecast, lambda: loaders(*mackey_glass(), batch=32), 15, 1_500, {"gradient_clip_val": 1.0}, ranges=RANGES
    ),
    TRANSFER: LongTask(
        Transfer, _half_of_the_digits, 12, 1_488 if has_mnist() else 1_440, ranges={**RANGES, "lr": (1e-4, 1.0)}
    ),
    "long_signal": LongTask(Signal, lambda: loaders(*mnist1d(), batch=64), 25, 1_550, ranges=RANGES),
    "long_text": LongTask(
        Text, _topics, 4, 1_600, {"gradient_clip_val": 1.0, "val_check_interval": 100}, ranges=RANGES
    ),
    "long_finetuning": LongTask(FineTuning, _tokens, 6, 1_500, {"val_check_interval": 125}, ranges=RANGES),
    "long_sequence": LongTask(
        Sequence, lambda: loaders(*narma(), batch=16), 16, 1_600, {"gradient_clip_val": 1.0}, ranges=RANGES
    ),
}
LONG_DEVELOP = (VISION, "long_table", "long_forecast", TRANSFER, "long_signal")
LONG_REPORT = ("long_text", "long_finetuning", "long_sequence")
