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
        **_cuda_state(),
    }


def _cuda_state() -> dict[str, Any]:
    # a training on the CPU must not start CUDA
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {"cuda": [], "device": 0}
    return {"cuda": torch.cuda.get_rng_state_all(), "device": torch.cuda.current_device()}


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states of `read_random_state`.

    With another number of CUDA devices, only the state of the current device is restored, from the device that was
    current: each worker sees one device and calls it the first.
    """
    version, python_state, gauss = state["python"]
    random.setstate((version, tuple(python_state), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    cuda = state["cuda"]
    if not cuda or not torch.cuda.is_available():
        return
    if len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
    else:
        torch.cuda.set_rng_state(cuda[state.get("device", 0)])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the generators' states afterwards."""
    before = read_random_state()
    try:
        yield
    finally:
        set_random_state(before)
