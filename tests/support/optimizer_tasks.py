"""Four small models, each with its own batch, and a function that does a few steps on them."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from opttune.catalog import OptimizerInfo


class LstmModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 12)
        self.lstm = nn.LSTM(12, 16, batch_first=True)
        self.head = nn.Linear(16, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


class TransformerModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 6, 16) * 0.02)
        self.token_embedding = nn.Embedding(11, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.encoder(self.token_embedding(tokens) + self.pos_embed)
        return self.head(self.norm(hidden).mean(dim=1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 5))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 9, 5),
    )


def tokens() -> tuple[Tensor, Tensor]:
    inputs = torch.randint(0, 11, (32, 6))
    return inputs, inputs[:, -1]


@dataclass(frozen=True)
class Task:
    """A model and the batch that it learns by heart."""

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]

    def make(self, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
        torch.manual_seed(seed)
        return self.build(), *self.batch()


def _labelled(*shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (torch.randn(32, *shape), torch.randint(0, 5, (32,)))


TASKS = {
    "mlp": Task(mlp, _labelled(8)),
    "cnn": Task(cnn, _labelled(3, 8, 8)),
    "lstm": Task(LstmModel, tokens),
    "transformer": Task(TransformerModel, tokens),
}


def backward(loss: Tensor, info: OptimizerInfo) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Using backward\(\) with create_graph=True")
        loss.backward(create_graph=info.needs_create_graph)


def train(
    info: OptimizerInfo, optimizer: Optimizer, model: nn.Module, inputs: Tensor, labels: Tensor, steps: int
) -> list[float]:
    """Do some steps and return each one's loss."""
    losses = []
    # torch's fused attention has no second derivative
    math_only: Any = sdpa_kernel(SDPBackend.MATH) if info.needs_create_graph else nullcontext()
    with math_only:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs), labels)
            backward(loss, info)
            optimizer.step()
            losses.append(loss.item())
    return losses
