"""The devices and cores of trainings: the share of each worker, and the number of processes of one training."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch
import torch

from opttune.engines.worker_process import share_threads
from opttune.errors import InputError
from opttune.training.isolation import quiet_lightning

_CUDA, _ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
_ON_CUDA = ("auto", "gpu", "cuda")
_ABOUT_DEVICES = ("accelerator", "devices", "num_nodes", "strategy", "plugins")


def worker_environments(workers: int, trainer: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the environment variables that each worker gets in addition to those of this process.

    Args:
        workers: The number of workers.
        trainer: Arguments of the Trainer: with `devices=2` each worker gets two devices.

    Raises:
        InputError: A training asks for more devices than there are.
    """
    devices = share_devices(workers, devices_per_trial(trainer), visible_devices(trainer))
    threads = share_threads(workers)
    # Lightning sets the order in this process later on: a worker that replaces another must number them alike
    order = {_ORDER: os.environ.get(_ORDER, "FASTEST_FIRST")}
    return [{**threads, **({_CUDA: ",".join(own), **order} if own else {})} for own in devices]


def sharing_words(workers: int, trainer: Mapping[str, Any]) -> str:
    """Return a sentence if several workers share a device and its memory; else empty.

    Args:
        workers: The number of workers.
        trainer: Arguments of the Trainer.
    """
    devices = visible_devices(trainer)
    places = len(devices) // devices_per_trial(trainer)
    if not devices or workers <= places:
        return ""
    most = -(-workers // places)
    return (
        f"{workers} workers share {len(devices)} GPU{'s' if len(devices) > 1 else ''}, up to {most} on one: each of "
        f"these has about 1/{most} of its memory and speed. A training that runs out of memory ends as out_of_memory; "
        f"--workers {places} gives each its own."
    )


def require_devices(trainer: Mapping[str, Any]) -> None:
    """Refuse a Trainer that asks for missing devices.

    Raises:
        InputError: Devices are missing; the message names the available ones.
    """
    given = {name: trainer[name] for name in _ABOUT_DEVICES if name in trainer}
    if not {"accelerator", "devices"} & given.keys():
        return
    try:
        _device_trainer(given)
    except Exception as err:  # of Lightning, or of a plugin of the user's
        asked = ", ".join(f"{name}={given[name]!r}" for name in ("accelerator", "devices") if name in given)
        raise InputError(
            f"trainer: {asked} is not available on this machine: {' '.join(str(err).split())} {_what_is_there()}. "
            "Use an available device, trainer={'accelerator': 'auto', 'devices': 1} "
            "(--trainer accelerator=auto devices=1), or accelerator=cpu."
        ) from None


def _what_is_there() -> str:
    count = torch.cuda.device_count()
    if count:
        return f"There are {count} CUDA devices, numbered from 0"
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a build without CUDA"
    hidden = os.environ.get(_CUDA)
    if hidden is not None:
        return f"There is no CUDA device among {_CUDA}={hidden!r}"
    return f"torch {torch.__version__} finds no CUDA device: nvidia-smi shows whether the driver is installed"


def _device_trainer(given: Mapping[str, Any]) -> Any:
    with quiet_lightning():
        return lightning.pytorch.Trainer(**given, logger=False, enable_checkpointing=False)


def share_devices(workers: int, per_trial: int, devices: Sequence[str]) -> list[list[str]]:
    """Assign devices in turn, `per_trial` to a worker; if there are too few, several workers share a device.

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
    """Return how many devices one training uses; a search's default is one.

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
    # `auto` and -1 mean all of them
    return max(1, len(visible_devices(trainer)))


def visible_devices(trainer: Mapping[str, Any]) -> list[str]:
    """Return the CUDA devices that trainings may use, named as in `CUDA_VISIBLE_DEVICES`."""
    if str(trainer.get("accelerator", "auto")) not in _ON_CUDA:
        return []
    # this asks the driver and does not initialise CUDA in this process
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_CUDA, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def count_processes(arguments: Mapping[str, Any]) -> int:
    """Return how many processes train together in a Trainer with these arguments; a search's default is one.

    Raises:
        InputError: The processes would run on several machines.

    Example:
        >>> count_processes({"max_steps": 3}), count_processes({"devices": 2, "accelerator": "cpu"})
        (1, 2)
    """
    if arguments.get("num_nodes", 1) != 1:
        raise InputError(
            f"a search trains on the devices of one machine, got num_nodes={arguments['num_nodes']!r}: leave it out. "
            "RecipeCallback trains with the best recipe on several machines."
        )
    given = {name: arguments[name] for name in _ABOUT_DEVICES if name in arguments}
    if "devices" not in given:
        return 1
    try:
        trainer = _device_trainer(given)
    except Exception:  # the Trainer of the training will report the error
        return 1
    return int(trainer.world_size)


def without_spawning(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Trainer's arguments with a strategy that runs the command again for each rank.

    It replaces a strategy that spawns its processes: those could not return their results.

    Example:
        >>> without_spawning({"devices": 2, "strategy": "ddp_spawn_find_unused_parameters_true"})["strategy"]
        'ddp_find_unused_parameters_true'
    """
    strategy = arguments.get("strategy")
    if not isinstance(strategy, str):
        return dict(arguments)
    for name in ("ddp_spawn", "ddp_fork", "ddp_notebook"):
        strategy = strategy.replace(name, "ddp")
    return {**arguments, "strategy": strategy}
