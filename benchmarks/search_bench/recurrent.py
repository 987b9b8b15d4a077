"""Two recurrent networks for the choice of default recipes; no search is measured on them."""

import torch
from torch import Tensor, nn

from search_bench.data import mnist1d
from search_bench.tasks import Loaders, Task, loaders

_LENGTH = 30
_TRAIN, _VAL = 3_200, 800


class Adding(Task):
    """An LSTM that adds the two marked numbers of a sequence (Hochreiter and Schmidhuber 1997, section 5.4)."""

    def __init__(self) -> None:
        super().__init__(LastOutput(), nn.functional.mse_loss)


class Signals(Task):
    """A GRU that reads signals in both directions and names their shape."""

    def __init__(self) -> None:
        super().__init__(MeanOutput(), nn.functional.cross_entropy)


class LastOutput(nn.Module):
    """An LSTM, and a linear layer over its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 48, batch_first=True)
        self.head = nn.Linear(48, 1)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return one number a sequence."""
        outputs, _ = self.lstm(sequences)
        return self.head(outputs[:, -1]).squeeze(-1)


class MeanOutput(nn.Module):
    """A GRU over pairs of points, and a linear layer over the mean of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 64, batch_first=True, bidirectional=True)
        self.head = nn.Linear(128, 10)

    def forward(self, signals: Tensor) -> Tensor:
        """Return logits."""
        outputs, _ = self.gru(signals.view(len(signals), -1, 2))
        return self.head(outputs.mean(1))


def adding_loaders() -> Loaders:
    """Return sequences of numbers and marks, one mark in each half, with the sum of the marked numbers."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(_TRAIN + _VAL, _LENGTH, generator=generator)
    marks = torch.zeros_like(numbers)
    every, half = torch.arange(len(numbers)), _LENGTH // 2
    for start in (0, half):
        marks[every, torch.randint(start, start + half, every.shape, generator=generator)] = 1.0
    inputs, sums = torch.stack([numbers, marks], -1), (numbers * marks).sum(1)
    return loaders(inputs[:_TRAIN], sums[:_TRAIN], inputs[_TRAIN:], sums[_TRAIN:], batch=32)


def signal_loaders() -> Loaders:
    """Return the signals of MNIST-1D."""
    return loaders(*mnist1d(), batch=64)
