"""The models of the checks: those of `examples/` at two sizes, and some that misbehave."""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.append(str(Path(__file__).parents[2] / "examples"))

Factory = Callable[[], Any]


def transformer(width: int, compiled: str = "") -> Any:
    from language_model import CharacterTransformer

    model = CharacterTransformer(width)
    if compiled:
        model.layers.compile(backend=compiled)
    return model


def lstm(width: int) -> Any:
    from lstm import CharacterLstm

    return CharacterLstm(width)


def cnn(width: int) -> Any:
    from cnn import DigitsCnn

    model = DigitsCnn()
    for inputs, outputs, place in ((1, width, 0), (width, 2 * width, 3), (2 * width, 2 * width, 6)):
        model.layers[place] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        model.layers[place + 1] = nn.BatchNorm2d(outputs)
    model.layers[-1] = nn.Linear(8 * width, 10)
    return model


def text(batch: int) -> tuple[Any, Any]:
    from language_model import CONTEXT, library_text

    pieces = library_text(files=20)
    pieces = pieces[: len(pieces) // (CONTEXT + 1) * (CONTEXT + 1)].reshape(-1, CONTEXT + 1)
    train, val = TensorDataset(pieces[256:]), TensorDataset(pieces[:256])
    return DataLoader(train, batch_size=batch, shuffle=True, drop_last=True), DataLoader(val, batch_size=256)


def digits(batch: int) -> tuple[Any, Any]:
    from cnn import loaders

    train, val = loaders()
    # 1,297 images are few for a GPU
    images, labels = train.dataset.tensors
    repeats = 1 + batch // len(images)
    data = TensorDataset(images.repeat(repeats, 1, 1, 1), labels.repeat(repeats))
    return DataLoader(data, batch_size=batch, shuffle=True, drop_last=True), val


class Small(lightning.LightningModule):
    """Three layers with dropout, on numbers of its own."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def numbers(rows: int = 512, batch: int = 32) -> tuple[Any, Any]:
    x = torch.randn(rows, 16, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x[:, :1].sin() + x[:, 1:2])
    return DataLoader(data, batch_size=batch, shuffle=True), DataLoader(data, batch_size=rows)


class NanAt(Small):
    """Its loss is NaN from a step on."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.nan_step = step

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.trainer.global_step + 1 >= self.nan_step else loss


class Greedy(Small):
    """Asks for more memory than any device has."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        kept = [torch.ones(1 << 26, device=self.device)]
        return loss + torch.empty(1 << 50, dtype=torch.uint8, device=self.device)[:1].sum() + kept[0][0]


class KillsItself(Small):
    """Kills its process at a step of the first training, like a machine that has run out of memory."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = Path(marker)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_step == 5 and not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


class NotesItsDevice(Small):
    """Writes down which process trains it, and on which device."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def on_train_start(self) -> None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        (self.folder / f"{os.getpid()}.worker").write_text(f"{self.device} {visible}")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        # both are to train at the same time
        until = time.monotonic() + 20
        while len(list(self.folder.glob("*.worker"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        return super().training_step(batch, batch_idx)


class Load(Small):
    """A step that costs about as much as it is asked to: multiplications of one square matrix."""

    def __init__(self, side: int, repeats: int) -> None:
        super().__init__()
        self.repeats = repeats
        self.square = nn.Parameter(torch.eye(side) + 0.001 * torch.randn(side, side))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        work = self.square
        for _ in range(self.repeats):
            work = work @ self.square
        return super().training_step(batch, batch_idx) + 0.0 * work.mean()


def maker(model: Callable[..., Any], *arguments: Any) -> Factory:
    return partial(model, *arguments)
