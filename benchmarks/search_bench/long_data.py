"""Data of the long tasks, none of it downloaded: MNIST if it lies beside the project, generated data, Python's text."""

import gzip
import keyword
import pydoc_data.topics
import sysconfig
import tokenize
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_bench.data import Split, digits

MNIST = Path(__file__).parents[2] / ".." / "shared" / "data" / "mnist"
VOCABULARY = 96
"""Printable ASCII; 0 is every other character."""
SOURCES = (
    "argparse", "datetime", "doctest", "inspect", "pickletools", "pydoc", "tarfile", "turtle", "typing", "zipfile",
)  # fmt: skip
"""Modules of Python whose characters are to be told apart."""
KINDS = ("", "NAME", "KEYWORD", "OP", "STRING", "NUMBER", "COMMENT")
"""Python's kinds of tokens, white space first."""


def has_mnist() -> bool:
    """Return whether MNIST lies beside the project."""
    return (MNIST / "train-images-idx3-ubyte.gz").exists()


@cache
def images(train: int = 4_096, val: int = 2_000) -> Split:
    """Return MNIST's first images, standardized, of one channel; scikit-learn's digits where MNIST is absent."""
    if not has_mnist():
        pixels, labels, val_pixels, val_labels = digits()
        return _standardized(pixels.view(-1, 1, 8, 8)), labels, _standardized(val_pixels.view(-1, 1, 8, 8)), val_labels
    pixels = torch.tensor(_idx("train-images-idx3-ubyte.gz", 16)[: (train + val) * 784], dtype=torch.float32)
    shaped = _standardized((pixels / 255).view(-1, 1, 28, 28))
    labels = torch.tensor(_idx("train-labels-idx1-ubyte.gz", 8)[: train + val], dtype=torch.int64)
    return shaped[:train], labels[:train], shaped[train:], labels[train:]


def _idx(name: str, header: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress((MNIST / name).read_bytes()), np.uint8, offset=header)


def _standardized(pixels: Tensor) -> Tensor:
    return (pixels - 0.1307) / 0.3081


@cache
def python_topics(window: int, train: int, val: int) -> tuple[Tensor, Tensor]:
    """Return windows of the language reference that comes with Python, as character codes.

    The last tenth of each topic is for validation. Another version of Python has other topics.
    """
    parts = [_codes(text.encode()) for _, text in sorted(pydoc_data.topics.topics.items())]
    cuts = [len(part) * 9 // 10 for part in parts]
    texts = (
        np.concatenate([part[:cut] for part, cut in zip(parts, cuts, strict=True)]),
        np.concatenate([part[cut:] for part, cut in zip(parts, cuts, strict=True)]),
    )
    chosen = [_some(_windows(text, window), count) for text, count in zip(texts, (train, val), strict=True)]
    return chosen[0], chosen[1]


@cache
def python_tokens(window: int = 32, train: int = 400, val: int = 40) -> Split:
    """Return windows of Python's own modules and the kind of token that each character is of, as many of each module.

    The last fifth of each file is for validation.
    """
    folder, parts = Path(sysconfig.get_paths()["stdlib"]), []
    for name in SOURCES:
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        both = torch.stack(
            [_windows(_codes(text.encode("ascii", "replace")), window), _windows(_kinds(text), window)], 1
        )
        cut = len(both) * 4 // 5
        parts.append((_some(both[:cut], train), _some(both[cut:], val)))
    trains, vals = (torch.cat(some) for some in zip(*parts, strict=True))
    return trains[:, 0], trains[:, 1], vals[:, 0], vals[:, 1]


def _kinds(text: str) -> NDArray[np.int64]:
    """Return for each character the number of its kind of token; white space is the first."""
    begins = np.cumsum([0, *(len(line) for line in text.splitlines(keepends=True))])
    kinds = np.zeros(len(text), np.int64)
    for token in tokenize.generate_tokens(StringIO(text).readline):
        word = "KEYWORD" if keyword.iskeyword(token.string) else tokenize.tok_name[token.type].partition("_")[0]
        kind = "STRING" if word == "FSTRING" else word
        if kind in KINDS:
            (row, column), (last_row, last_column) = token.start, token.end
            kinds[begins[row - 1] + column : begins[last_row - 1] + last_column] = KINDS.index(kind)
    return kinds


def text_windows(text: bytes, window: int) -> Tensor:
    """Return a text as windows of character codes, one after the other."""
    return _windows(_codes(text), window)


def _codes(text: bytes) -> NDArray[np.int64]:
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 31
    return np.where((codes < 1) | (codes >= VOCABULARY), 0, codes)


def _windows(codes: NDArray[np.int64], window: int) -> Tensor:
    return torch.tensor(codes[: len(codes) // window * window]).view(-1, window)


def _some(windows: Tensor, count: int) -> Tensor:
    if len(windows) < count:
        raise SystemExit(f"this Python's text has {len(windows)} windows where {count} are asked for")
    return windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[:count]]


@cache
def table(train: int = 8_192, val: int = 4_096) -> Split:
    """Return a generated table for regression: skewed and correlated columns, smooth and stepwise effects, noise."""
    rng = np.random.default_rng(7)
    hidden = rng.standard_normal((train + val, 8))
    columns = hidden @ rng.standard_normal((8, 16)) / 8**0.5 + 0.5 * rng.standard_normal((train + val, 16))
    smooth = np.sin(2 * columns[:, 0]) + columns[:, 1] * columns[:, 2] + np.exp(-(columns[:, 3] ** 2))
    steps = sum(_tree(columns, rng) for _ in range(8))
    target = smooth / smooth.std() + steps / np.std(steps)
    target = target / target.std() + 0.1 * rng.standard_normal(len(target))
    seen = np.concatenate([columns[:, :12], np.exp(columns[:, 12:])], 1)
    seen = (seen - seen[:train].mean(0)) / seen[:train].std(0)
    inputs, targets = torch.tensor(seen, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)[:, None]
    return inputs[:train], targets[:train], inputs[train:], targets[train:]


def _tree(columns: NDArray[np.float64], rng: np.random.Generator, depth: int = 2) -> NDArray[np.float64]:
    """Return the values of a random tree, the same question for all nodes of a depth."""
    leaf = np.zeros(len(columns), int)
    for _ in range(depth):
        column = columns[:, rng.integers(columns.shape[1])]
        leaf = 2 * leaf + (column > np.quantile(column, rng.uniform(0.3, 0.7)))
    return rng.standard_normal(2**depth)[leaf]


@cache
def narma(length: int = 32, train: int = 1_600, val: int = 400) -> Split:
    """Return NARMA-10 (Atiya and Parlos, 2000): random inputs and what a system of order ten makes of them."""
    rng, begin = np.random.default_rng(3), 40
    inputs = rng.uniform(0, 0.5, (train + val, begin + length))
    outputs = np.zeros_like(inputs)
    for now in range(9, begin + length - 1):
        past = outputs[:, now - 9 : now + 1]
        grown = 0.3 * outputs[:, now] + 0.05 * outputs[:, now] * past.sum(1)
        outputs[:, now + 1] = np.tanh(grown + 1.5 * inputs[:, now - 9] * inputs[:, now] + 0.1)
    seen = torch.tensor((inputs[:, begin:] - 0.25) / 0.144, dtype=torch.float32)[..., None]
    shown = torch.tensor(outputs[:, begin:], dtype=torch.float32)[..., None]
    shown = (shown - shown[:train].mean()) / shown[:train].std()
    return seen[:train], shown[:train], seen[train:], shown[train:]


@cache
def mackey_glass(length: int = 48, ahead: int = 12, train: int = 3_200, val: int = 800) -> Split:
    """Return windows of the Mackey-Glass equation (1977, delay 17, Euler steps of a tenth) and what follows them."""
    delay, per_point, gap = 170, 10, 10
    points = (train + gap + val) * 6 + length + ahead
    series = np.full(points * per_point + delay, 1.2)
    for now in range(delay, len(series) - 1):
        past = series[now - delay]
        series[now + 1] = series[now] + 0.1 * (0.2 * past / (1 + past**10) - 0.1 * series[now])
    seen = torch.tensor((series[delay::per_point] - 0.93) / 0.22, dtype=torch.float32)
    # the gap keeps the windows for validation apart from those to train on
    begins = torch.cat([torch.arange(train), torch.arange(train + gap, train + gap + val)]) * 6
    inputs = torch.stack([seen[begin : begin + length] for begin in begins])[..., None]
    targets = torch.stack([seen[begin + ahead : begin + ahead + length] for begin in begins])[..., None]
    noisy = inputs + 0.05 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(5))
    return noisy[:train], targets[:train], noisy[train:], targets[train:]


@cache
def halves_of_digits() -> tuple[Split, Split]:
    """Return the images of the digits 0 to 4 and those of 5 to 9, the latter labelled 0 to 4."""
    pixels, labels, val_pixels, val_labels = images(8_192)
    low, val_low = labels < 5, val_labels < 5
    first = (pixels[low], labels[low], val_pixels[val_low], val_labels[val_low])
    return first, (pixels[~low], labels[~low] - 5, val_pixels[~val_low], val_labels[~val_low] - 5)
