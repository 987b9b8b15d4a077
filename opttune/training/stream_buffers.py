"""The containers from which a stream draws while the training fills them, such as a replay buffer.

An epoch over such a stream may sample their contents at the start of the epoch. The contents are noted then, by
reference, and a resumed training draws the batches already seen from them again.
"""

import pickle
from collections import deque
from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

Container = list[Any] | deque[Any] | dict[Any, Any] | np.ndarray | torch.Tensor

_DEPTH = 3
_MOST_BYTES = 1 << 24
"""A larger array is not copied at the start of each epoch. Chosen by hand."""


def containers_of(dataset: Any) -> list[Container]:
    """Return the containers among the attributes of a stream and of its objects.

    Args:
        dataset: A dataset; a map-style dataset has none, since its items are drawn by their indices.

    Example:
        >>> class Replay(IterableDataset):
        ...     def __init__(self):
        ...         self.buffer = deque([1, 2], maxlen=8)
        ...
        ...     def __iter__(self):
        ...         return iter(list(self.buffer))
        >>> containers_of(Replay())
        [deque([1, 2], maxlen=8)]
    """
    return list(_found(dataset, _DEPTH, set())) if isinstance(dataset, IterableDataset) else []


def contents_of(containers: list[Container]) -> list[Container]:
    """Return the present contents of containers by reference, or a copy for arrays."""
    return [one.clone() if isinstance(one, torch.Tensor) else copy(one) for one in containers]


def put_contents(containers: list[Container], contents: list[Container]) -> None:
    """Restore the contents of containers from the result of `contents_of`."""
    for one, held in zip(containers, contents, strict=True):
        match one:
            case dict():
                one.clear()
                one.update(held)
            case list() | deque():
                one.clear()
                one.extend(held)
            case np.ndarray():
                one[...] = held
            case torch.Tensor():
                one.copy_(held)  # type: ignore[arg-type]


def to_bytes(contents: list[Container] | None) -> torch.Tensor | None:
    """Return contents as bytes in a tensor; None if there are none, or they cannot be pickled."""
    if not contents:
        return None
    try:
        return torch.frombuffer(bytearray(pickle.dumps(contents)), dtype=torch.uint8)
    except Exception:  # of the user's class
        return None


def from_bytes(stored: torch.Tensor) -> list[Container]:
    """Read back the result of `to_bytes`, which opttune itself has stored."""
    contents: list[Container] = pickle.loads(stored.numpy().tobytes())
    return contents


def _found(owner: Any, depth: int, seen: set[int]) -> Iterator[Container]:
    for value in vars(owner).values() if hasattr(owner, "__dict__") else ():
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list | deque | dict):
            yield value
        elif isinstance(value, np.ndarray | torch.Tensor):
            if value.nbytes <= _MOST_BYTES and not isinstance(value, np.memmap):
                yield value
        elif depth > 1 and not isinstance(value, type | torch.nn.Module | Dataset):
            yield from _found(value, depth - 1, seen)
