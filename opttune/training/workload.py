"""The user's model and data, created again for each attempt."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from opttune.errors import ModelError
from opttune.trainer.namespaces import NAMESPACES, is_data_module, is_module
from opttune.training.loaders import is_loaders, map_loaders

_SWAPPED = "{} {}, not a LightningModule: are MODEL and DATA swapped?"
_IS_DATA = "is a LightningDataModule"


@dataclass(frozen=True, slots=True)
class Workload:
    """The user's model and data.

    Attributes:
        model: A LightningModule class or a factory without arguments, called for each attempt; or an
            instance, copied for each attempt.
        data: A LightningDataModule, a factory for one (or for loaders), or what `Trainer.fit` takes:
            train loaders, or a pair `(train, val)`; None if the model has its own loaders.
        model_reference: The text `path/file.py:name` that named the model; empty if an object was given.
        data_reference: The text that named the data; empty if an object was given.
    """

    model: Any
    data: Any = None
    model_reference: str = ""
    data_reference: str = ""

    @property
    def name(self) -> str:
        """The name of the model's class or factory."""
        model = self.model.func if isinstance(self.model, partial) else self.model
        named = model if hasattr(model, "__name__") else type(model)
        return str(named.__name__)

    @property
    def is_instance(self) -> bool:
        """Whether every training starts from the weights of one given module, whatever its seed."""
        return bool(is_module(self.model))

    def make_model(self) -> Any:
        """Return an untrained LightningModule.

        Raises:
            ModelError: The class or factory needs arguments, or returns something else.
        """
        if self.is_instance:
            return deepcopy(self.model)
        if is_data_module(self.model):
            raise ModelError(_SWAPPED.format(type(self.model).__name__, _IS_DATA))
        if is_loaders(self.model) and _gives_module(self.data):
            raise ModelError(_SWAPPED.format("MODEL", f"is a {type(self.model).__name__}"))
        if not callable(self.model) or isinstance(self.model, nn.Module):
            raise ModelError(
                f"a model must be a LightningModule, its class, or a factory, got {type(self.model).__name__}."
            )
        model = _call(self.model, "model")
        if is_data_module(model):
            raise ModelError(_SWAPPED.format(self.name, _IS_DATA))
        if not is_module(model):
            if is_loaders(model) and _gives_module(self.data):
                raise ModelError(_SWAPPED.format(self.name, f"returns {type(model).__name__}"))
            raise ModelError(f"{self.name} is not a LightningModule: it returns {type(model).__name__}.")
        return model

    def make_data(self) -> dict[str, Any]:
        """Return the data as keyword arguments of `Trainer.fit`.

        Raises:
            ModelError: The class or factory needs arguments, or the data is not a pair.
        """
        data = map_loaders(_rewound, self.data)
        if callable(data) and not is_data_module(data):
            data = _call(data, "data")
        if data is None:
            return {}
        if is_data_module(data):
            return {"datamodule": data}
        if isinstance(data, tuple):
            if len(data) != 2:
                got = "1 object" if len(data) == 1 else f"{len(data)} objects"
                raise ModelError(f"data must be a pair (train, val) of loaders, got {got}.")
            return {"train_dataloaders": data[0], "val_dataloaders": data[1]}
        return {"train_dataloaders": data}


def _gives_module(data: Any) -> bool:
    """Return whether what was given as the data is a LightningModule, its class, or a factory."""
    if isinstance(data, type):
        return any(issubclass(data, namespace.LightningModule) for namespace in NAMESPACES)
    try:
        return bool(is_module(data) or (isinstance(data, FunctionType | partial) and is_module(data())))
    except Exception:  # of the user's code; the model's error is the one to report
        return False


def _rewound(data: Any) -> Any:
    """Return a copy of a loader with the state of its sampler and generator, so each attempt draws the same."""
    if is_data_module(data):
        return _copied(data, {})
    # copying a subclass may be expensive
    if type(data) is not DataLoader:
        return data
    return _copied(data, {id(data.dataset): data.dataset, id(data._iterator): None})


def _copied(data: Any, kept: dict[int, Any]) -> Any:
    try:
        return deepcopy(data, kept)
    except Exception:  # it may hold an object that cannot be copied
        return data


def _call(factory: Callable[[], Any], what: str) -> Any:
    try:
        return factory()
    except TypeError as err:
        # a TypeError from deeper inside is the user's bug and keeps its traceback
        if err.__traceback__ is None or err.__traceback__.tb_next is not None:
            raise
        name = getattr(factory, "__name__", type(factory).__name__)
        raise ModelError(
            f"the {what} {name} cannot be made without arguments ({err}). "
            f"Give a function without arguments that returns it: def make(): return {name}(...)"
        ) from None
