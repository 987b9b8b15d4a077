"""Read the `Identity` of a Trainer's model and data, which a study keeps."""

import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

from opttune.identity import Identity
from opttune.training.data_facts import DataFacts, loaders_of

_MOST_LINES = 400  # some databases hold 64 KB in a field
_READS, _MOST_SECONDS = 3, 2.0
_MOST_VALUES = 512
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+|0x[0-9a-fA-F]{6,}")


def identify(trainer: Any, instance: Any = None) -> Identity:
    """Return the identity of a Trainer's model and data, after its fit, from some samples of each loader.

    Args:
        trainer: The Trainer.
        instance: The module from whose copies all trainings start; None if each training makes its own.
    """
    return Identity(
        model=dict(islice(_lines(trainer.lightning_module), _MOST_LINES)),
        data=[_identify_loader(facts, loader) for facts, loader in loaders_of(trainer)],
        weights=None if instance is None else _checksum(instance),
    )


def _checksum(module: Any) -> int:
    """Return a checksum of a module's weights."""
    found = 0
    for parameter in module.parameters():
        with suppress(Exception):  # a lazy parameter has no values, and a library's own kind may have no bytes
            values = parameter.detach().to("cpu").contiguous().reshape(-1)
            found = crc32(values.view(torch.uint8).numpy(), found)
    return found


def _lines(model: Any) -> Iterator[tuple[str, str]]:
    yield "class", type(model).__name__
    for name, parameter in model.named_parameters():
        yield name, "x".join(map(str, parameter.shape)) or "a number"
    for name, value in getattr(model, "hparams", {}).items():
        # a text may be a path, or contain a date
        if isinstance(value, int | float):
            yield f"hyperparameter {name}", repr(value)
    for name, layer in model.named_modules():
        if name and next(layer.children(), None) is None:
            with suppress(Exception):
                yield f"layer {name}", _ADDRESS.sub("", f"{type(layer).__name__}({layer.extra_repr()})")


def _identify_loader(facts: DataFacts, loader: Any) -> dict[str, Any]:
    known = {name: getattr(facts, name) for name in ("purpose", "dataset", "samples", "batch_size")}
    contents = None
    with suppress(Exception), warnings.catch_warnings():  # the user's dataset may raise anything
        warnings.simplefilter("ignore")
        contents = _contents(loader)
    return {**known, "contents": contents}


def _contents(loader: Any) -> list[list[float]] | None:
    """Return numbers from some samples; None if they change between readings."""
    dataset = getattr(loader, "dataset", loader)
    # a random split chooses other samples each time
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        return None
    last = len(dataset) - 1
    places = sorted({0, last // 3, 2 * last // 3, last})
    reader: Any = DataLoader(
        dataset,
        batch_size=None,
        sampler=places * _READS,
        collate_fn=_as_is,
        # if a worker process reads it, this process may not open its files
        num_workers=min(1, getattr(loader, "num_workers", 0)),
        worker_init_fn=getattr(loader, "worker_init_fn", None),
        multiprocessing_context=getattr(loader, "multiprocessing_context", None),
    )
    read: list[list[float]] = []
    latest = time.monotonic() + _MOST_SECONDS
    for sample in reader:
        read.append(_numbers(sample))
        if time.monotonic() > latest:
            return None
    first = read[: len(places)]
    is_random = any(read[at : at + len(places)] != first for at in range(0, len(read), len(places)))
    return None if is_random or not any(first) else first


def _as_is(sample: Any) -> Any:
    return sample


def _numbers(thing: Any) -> list[float]:
    """Return two numbers for each array in a sample: its mean size, and a sum in which each place has its weight."""
    if isinstance(thing, str | bytes):
        return [float(crc32(thing.encode() if isinstance(thing, str) else thing))] * 2
    if isinstance(thing, Mapping):
        return [number for name in sorted(thing, key=str) for number in _numbers(thing[name])]
    if isinstance(thing, Sequence) and not all(isinstance(each, int | float) for each in thing):
        return [number for each in thing for number in _numbers(each)]
    if isinstance(thing, torch.Tensor):
        thing = torch.view_as_real(thing) if thing.is_complex() else thing
        thing = thing.detach().to("cpu", torch.float64)
    values = np.asarray(thing).reshape(-1)
    if values.dtype.kind not in "biuf" or not len(values):
        return []
    # at even distances
    values = np.nan_to_num(values[:: -(-len(values) // _MOST_VALUES)].astype(np.float64))
    return [float(np.abs(values).mean()), float((values * np.cos(1.0 + np.arange(len(values)))).mean())]
