"""The states of the global random generators, as plain values and tensors for a checkpoint."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def read_random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators; they load with `weights_only=True`.

    Example:
        >>> state = read_random_state()
        >>> before = torch.rand(1)
        >>> set_random_state(state)
        >>> bool(before == torch.rand(1))
        True
    """
    version, python_state, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(python_state), gauss],
        "numpy": [str(name), torch.tensor([int(key) for key in keys]), *rest],
        "torch": torch.get_rng_state(),
        # a training on the CPU must not start CUDA
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states of `read_random_state`; CUDA's only with the same number of devices."""
    version, python_state, gauss = state["python"]
    random.setstate((version, tuple(python_state), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the generators' states afterwards."""
    before = read_random_state()
    try:
        yield
    finally:
        set_random_state(before)
