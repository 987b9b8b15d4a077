"""Six small tasks of different kinds, each trained in seconds and each with a poor optimizer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from search_bench.data import digits, python_text

VOCABULARY = 96


class Task(lightning.LightningModule):
    """A network with a loss, and SGD at a rate far too small.

    Args:
        network: The network.
        loss: Of its output and the targets.
    """

    def __init__(self, network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        inputs, targets = batch
        return self._loss(self.network(inputs), targets)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss of a batch."""
        inputs, targets = batch
        self.log("val_loss", self._loss(self.network(inputs), targets))

    def configure_optimizers(self) -> Any:
        """Return a poor choice."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy of the next characters."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class LastState(nn.Module):
    """An LSTM over the rows of an image, and a linear layer over its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        states, _ = self.lstm(images.view(-1, 8, 8))
        return self.head(states[:, -1])


class LanguageModel(nn.Module):
    """Two transformer layers over characters."""

    def __init__(self, width: int = 64, window: int = 32) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(window, width)
        self.layers = _transformer(width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the logits of each next character."""
        length = codes.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.tokens(codes) + self.positions(torch.arange(length))
        return self.head(self.norm(self.layers(hidden, mask=mask, is_causal=True)))


class VisionTransformer(nn.Module):
    """Two transformer layers over patches of 2 x 2 pixels."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.positions = nn.Parameter(torch.randn(16, width) * 0.02)
        self.layers = _transformer(width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        hidden = self.patches(images.view(-1, 1, 8, 8)).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.layers(hidden).mean(1)))


def _transformer(width: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def _autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8),
        nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid(),
    )  # fmt: skip


def _classifier(network: Callable[[], nn.Module]) -> Callable[[], Task]:
    return lambda: Task(network(), nn.functional.cross_entropy)


Loaders = tuple[DataLoader[Any], DataLoader[Any]]


def loaders(inputs: Tensor, targets: Tensor, val_inputs: Tensor, val_targets: Tensor, batch: int) -> Loaders:
    """Return the loaders: shuffled batches to train on, one batch to validate on."""
    return (
        DataLoader(TensorDataset(inputs, targets), batch_size=batch, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(val_inputs, val_targets), batch_size=len(val_inputs)),
    )


def _digits() -> Loaders:
    return loaders(*digits(), batch=64)


def _digits_to_themselves() -> Loaders:
    images, _, val_images, _ = digits()
    return loaders(images, images, val_images, val_images, batch=64)


def _text() -> Loaders:
    train, val = python_text()
    return loaders(train[:, :-1], train[:, 1:], val[:, :-1], val[:, 1:], batch=16)


@dataclass(frozen=True, slots=True)
class LiveTask:
    """A model and its data.

    Attributes:
        model: Makes the model.
        data: Makes the loaders.
        epochs: The full length: whole epochs, so that it ends with a validation.
        steps: The same in optimizer steps.
        trainer: Arguments of the Trainer beside the length.
    """

    model: Callable[..., Task]
    data: Callable[[], Loaders]
    epochs: int
    steps: int
    trainer: Mapping[str, Any] = field(default_factory=dict)


TASKS = {
    "mlp": LiveTask(_classifier(_mlp), _digits, 15, 330),
    "lstm": LiveTask(_classifier(LastState), _digits, 15, 330),
    "cnn": LiveTask(_classifier(_cnn), _digits, 15, 330),
    "transformer": LiveTask(lambda: Task(LanguageModel(), token_loss), _text, 8, 400),
    "autoencoder": LiveTask(lambda: Task(_autoencoder(), nn.functional.mse_loss), _digits_to_themselves, 15, 330),
    "vit": LiveTask(_classifier(VisionTransformer), _digits, 15, 330),
}
DEVELOP = ("mlp", "lstm")
"""Tasks on which the search may be developed; the others are only reported on."""
