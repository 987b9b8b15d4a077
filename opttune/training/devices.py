"""How many processes a Trainer's arguments stand for."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch

from opttune.errors import InputError
from opttune.training.isolation import quiet_lightning

_ABOUT_DEVICES = ("accelerator", "devices", "num_nodes", "strategy", "plugins")


def count_processes(arguments: Mapping[str, Any]) -> int:
    """Return how many processes train together under a Trainer of these arguments; a search's default is one.

    Raises:
        InputError: They lie on several machines.

    Example:
        >>> count_processes({"max_steps": 3}), count_processes({"devices": 2, "accelerator": "cpu"})
        (1, 2)
    """
    if arguments.get("num_nodes", 1) != 1:
        raise InputError(
            f"a search trains on the devices of one machine, got num_nodes={arguments['num_nodes']!r}: leave it out. "
            "RecipeCallback trains on several machines with what was found."
        )
    given = {name: arguments[name] for name in _ABOUT_DEVICES if name in arguments}
    if "devices" not in given:
        return 1
    try:
        with quiet_lightning():
            trainer = lightning.pytorch.Trainer(**given, logger=False, enable_checkpointing=False)
    except Exception:  # the Trainer of the training says in its own words what is wrong
        return 1
    return int(trainer.world_size)


def in_processes_of_their_own(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Trainer's arguments for a process that may be run again for each rank.

    A strategy that spawns its processes is exchanged for the one that trains alike in processes of their own: those
    could not tell what they found.

    Example:
        >>> in_processes_of_their_own({"devices": 2, "strategy": "ddp_spawn_find_unused_parameters_true"})["strategy"]
        'ddp_find_unused_parameters_true'
    """
    strategy = arguments.get("strategy")
    if not isinstance(strategy, str):
        return dict(arguments)
    for name in ("ddp_spawn", "ddp_fork", "ddp_notebook"):
        strategy = strategy.replace(name, "ddp")
    return {**arguments, "strategy": strategy}
