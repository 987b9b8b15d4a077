"""Small data sets that need no download: scikit-learn's digits, MNIST-1D, and Python's own sources as text."""

import sysconfig
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.datasets import load_digits
from torch import Tensor

_TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
"""MNIST-1D's ten digits as curves (Greydanus and Kobak, arxiv.org/abs/2011.14439)."""
_PADDING, _LENGTH = (36, 60), 40
_TEXT_FILES = ("argparse.py", "ast.py", "dataclasses.py", "difflib.py", "doctest.py", "inspect.py", "statistics.py")

Split = tuple[Tensor, Tensor, Tensor, Tensor]
"""Inputs and targets to train on, inputs and targets to validate on."""


@cache
def digits() -> Split:
    """Return 1,437 images of 8 x 8 pixels to train on and 360 to validate on, pixels in [0, 1]."""
    loaded = load_digits()
    images, labels = torch.tensor(loaded.data / 16, dtype=torch.float32), torch.tensor(loaded.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, val = order[360:], order[:360]
    return images[train], labels[train], images[val], labels[val]


@cache
def mnist1d(count: int = 5_000) -> Split:
    """Return MNIST-1D, made as its authors make it: four fifths to train on, one to validate on."""
    rng = np.random.default_rng(42)
    curves = np.array(_TEMPLATES, float)
    curves = (curves - curves.mean(1, keepdims=True)) / curves.std(1, keepdims=True)
    curves = (curves - curves[:, :1]) / 6
    labels = np.arange(count) % 10
    signals = torch.tensor(np.stack([_distorted(curves[label], rng) for label in labels]), dtype=torch.float32)
    order = rng.permutation(count)
    train, val = order[count // 5 :], order[: count // 5]
    targets = torch.tensor(labels)
    return signals[train], targets[train], signals[val], targets[val]


def _distorted(curve: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Pad, stretch, scale, shift, add noise, shear, and shorten a curve."""
    padded = np.concatenate([curve + 1e-8, np.zeros(rng.integers(_PADDING[0], _PADDING[1] + 1))])
    signal = _interpolated(padded, len(curve) + _PADDING[1]) * (1 + 0.4 * (rng.random() - 0.5))
    signal = np.roll(signal, rng.integers(48))
    noise = gaussian_filter1d(0.25 * rng.standard_normal(len(signal)), 2)
    signal = np.where(signal != 0, signal, noise) + 0.02 * rng.standard_normal(len(signal))
    signal = signal - 0.75 * (rng.random() - 0.5) * np.linspace(-0.5, 0.5, len(signal))
    return _interpolated(signal, _LENGTH)


def _interpolated(signal: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(signal)), signal)


@cache
def teacher(count: int = 2_500) -> Split:
    """Return noise of 20 dimensions with the labels of a random network of 40 units, four fifths to train on."""
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 20, generator=random)
    first = torch.randn(20, 40, generator=random) / 20**0.5 * 1.5
    second = torch.randn(40, 5, generator=random)
    labels = (torch.tanh(inputs @ first) @ second).argmax(1)
    cut = count * 4 // 5
    return inputs[:cut], labels[:cut], inputs[cut:], labels[cut:]


@cache
def surface(count: int = 8_000) -> Split:
    """Return noise of 20 dimensions with 5 smooth functions of it and a little noise, four fifths to train on."""
    random = torch.Generator().manual_seed(2)
    inputs = torch.randn(count, 20, generator=random)
    first = torch.randn(20, 40, generator=random) / 20**0.5 * 1.5
    second = torch.randn(40, 5, generator=random) / 40**0.5 * 2
    targets = torch.tanh(inputs @ first) @ second + 0.05 * torch.randn(count, 5, generator=random)
    cut = count * 4 // 5
    return inputs[:cut], targets[:cut], inputs[cut:], targets[cut:]


@cache
def python_text(window: int = 33, vocabulary: int = 96) -> tuple[Tensor, Tensor]:
    """Return windows of Python's standard library as character codes: to train on, and to validate on.

    The last tenth of each file is for validation. Characters beyond printable ASCII are one.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    train, val = [], []
    for name in _TEXT_FILES:
        codes = np.frombuffer((folder / name).read_bytes(), np.uint8).astype(np.int64) - 31
        codes = torch.tensor(np.where((codes < 1) | (codes >= vocabulary), 0, codes))
        windows = codes[: len(codes) // window * window].view(-1, window)
        cut = len(windows) * 9 // 10
        train.append(windows[:cut])
        val.append(windows[cut:])
    # enough for an epoch of fifty steps of 16
    order = torch.randperm(len(torch.cat(train)), generator=torch.Generator().manual_seed(0))[:800]
    return torch.cat(train)[order], torch.cat(val)[:200]
