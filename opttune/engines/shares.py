"""What each worker of a machine gets: its devices and its share of the cores."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from opttune.engines.worker_process import share_threads
from opttune.errors import InputError

_CUDA = "CUDA_VISIBLE_DEVICES"
_ON_CUDA = ("auto", "gpu", "cuda")


def worker_environments(workers: int, trainer: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the variables that each worker gets beside those of this process.

    Args:
        workers: How many there are.
        trainer: Arguments of the Trainer: with `devices=2` each gets two devices.

    Raises:
        InputError: A training asks for more devices than there are.
    """
    devices = share_devices(workers, devices_per_trial(trainer), visible_devices(trainer))
    threads = share_threads(workers)
    return [{**threads, **({_CUDA: ",".join(own)} if own else {})} for own in devices]


def share_devices(workers: int, per_trial: int, devices: Sequence[str]) -> list[list[str]]:
    """Hand devices out in turn, `per_trial` to a worker; with more workers than that, several share a device.

    Example:
        >>> share_devices(3, 1, ["0", "1"]), share_devices(2, 2, ["0", "1", "4", "5"])
        ([['0'], ['1'], ['0']], [['0', '1'], ['4', '5']])
    """
    if not devices:
        return [[] for _ in range(workers)]
    if per_trial > len(devices):
        raise InputError(
            f"each training asks for {per_trial} devices, and there are {len(devices)}: set devices in trainer lower."
        )
    groups = len(devices) // per_trial
    starts = [worker % groups * per_trial for worker in range(workers)]
    return [list(devices[start : start + per_trial]) for start in starts]


def devices_per_trial(trainer: Mapping[str, Any]) -> int:
    """Return how many devices one training asks for; a search's default is one.

    Example:
        >>> devices_per_trial({}), devices_per_trial({"devices": "2"}), devices_per_trial({"devices": [0, 3]})
        (1, 2, 2)
    """
    asked = trainer.get("devices", 1)
    if isinstance(asked, str) and asked.strip().isdigit():
        return max(1, int(asked))
    if isinstance(asked, list | tuple):
        return max(1, len(asked))
    if isinstance(asked, int) and asked > 0:
        return asked
    # all of them: `auto`, -1
    return max(1, len(visible_devices(trainer)))


def visible_devices(trainer: Mapping[str, Any]) -> list[str]:
    """Return the CUDA devices that trainings may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    if str(trainer.get("accelerator", "auto")) not in _ON_CUDA:
        return []
    # asks the driver, and starts CUDA in this process no more than `nvidia-smi` would
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_CUDA, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
