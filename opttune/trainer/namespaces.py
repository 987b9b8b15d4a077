"""The two names of Lightning: `lightning.pytorch` and `pytorch_lightning`.

They have different classes with the same behaviour. A Trainer refuses a module or callback of the other name. opttune's
callbacks therefore belong to both, and a search uses the module's Trainer.
"""

from inspect import signature
from types import ModuleType
from typing import Any

import lightning.pytorch
import pytorch_lightning

from opttune.errors import ModelError

NAMESPACES: tuple[ModuleType, ModuleType] = (lightning.pytorch, pytorch_lightning)


class AnyCallback(lightning.pytorch.Callback, pytorch_lightning.Callback):  # type: ignore[misc]
    """Base of opttune's callbacks, which the Trainers of both names accept."""


def is_module(thing: object) -> bool:
    """Return whether an object is a LightningModule of either name."""
    return any(isinstance(thing, namespace.LightningModule) for namespace in NAMESPACES)


def is_data_module(thing: object) -> bool:
    """Return whether an object is a LightningDataModule of either name."""
    return any(isinstance(thing, namespace.LightningDataModule) for namespace in NAMESPACES)


def is_callback(thing: object) -> bool:
    """Return whether an object is a Callback of either name."""
    return any(isinstance(thing, namespace.Callback) for namespace in NAMESPACES)


def trainer_class(module: object) -> Any:
    """Return the Trainer class that accepts a module.

    Raises:
        ModelError: It is not a LightningModule.
    """
    for namespace in NAMESPACES:
        if isinstance(module, namespace.LightningModule):
            return namespace.Trainer
    raise ModelError(f"a model must be a LightningModule, got {type(module).__name__}.")


def trainer_arguments() -> frozenset[str]:
    """Return the names of all arguments of a Trainer."""
    return frozenset(name for namespace in NAMESPACES for name in signature(namespace.Trainer).parameters)


def is_mlflow_logger(logger: object) -> bool:
    """Return whether a Trainer's logger is Lightning's MLFlowLogger, of either name."""
    return any(cls.__name__ == "MLFlowLogger" for cls in type(logger).__mro__)
