"""The Python state of a training: the attributes of its module, callbacks and data module beside weights and buffers.

Counters, annealed factors, replay buffers and teachers are plain attributes of many modules; Lightning's checkpoint has
none of them. They are pickled together, so shared objects stay shared. Objects of the Trainer are replaced with
references. Restoring changes the objects of the new training in place, since its loaders may already use them.

Loaders and locks are not stored, because the new training has its own. The datasets of the train loaders store only
plain attributes, such as labels that the training writes, unless they are large. Attributes of Lightning's own
callbacks are not stored, because they have a `state_dict` for that.
"""

import io
import logging
import pickle
import random
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import cloudpickle
import numpy as np
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from opttune.errors import InputError
from opttune.trainer.namespaces import NAMESPACES, AnyCallback

_NEVER_STORED = (
    types.ModuleType, io.IOBase, logging.Handler, threading.Thread, threading.Event, threading.Condition,
    type(threading.Lock()), type(threading.RLock()), weakref.ReferenceType, torch.jit.ScriptModule, DataLoader, Sampler,
    np.memmap,
)  # fmt: skip
"""Types of objects that the new training keeps as its own."""
_GROWS = ("append", "add", "push", "store", "insert", "extend")
"""A dataset with such a method is a buffer that the training fills."""
_LARGE_BYTES = 1 << 24
"""A larger array of a data module is data, not state; so is a larger attribute of a dataset."""
_DATA = (list, dict, set, deque, tuple, torch.Tensor, np.ndarray, torch.Generator, np.random.Generator, random.Random)
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_PICKLED_BY_ATTRIBUTES: tuple[Any, ...] = (object.__reduce_ex__, object.__reduce__)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class _Own:
    """Marks an object in a stored state that the new training keeps as its own."""


_OWN = _Own()


def read_python_state(trainer: Any) -> torch.Tensor:
    """Return the Python state of a training as bytes in a tensor, which `torch.load` reads with `weights_only`.

    Raises:
        InputError: An attribute cannot be pickled.
    """
    owners, known = dict(_owners(trainer)), _known(trainer)
    state = {name: _attributes(owner) for name, owner in owners.items()}
    state |= {name: _data_attributes(dataset, known) for name, dataset in _datasets(trainer)}
    try:
        stored = _dumps(state, known)
    except Exception as err:
        raise InputError(_why_not_stored(state, known, owners, err)) from err
    return torch.frombuffer(bytearray(stored), dtype=torch.uint8)


def restore_python_state(trainer: Any, stored: torch.Tensor, is_set_up: bool) -> None:
    """Restore a Python state into the objects of this training.

    Args:
        trainer: The Trainer of the new training.
        stored: The result of `read_python_state`.
        is_set_up: Whether the training has all objects that it makes before its first step. Otherwise missing ones,
            such as the optimizers, are left out.

    Raises:
        InputError: The state has an object that this training does not have.
    """
    known = {key: thing for thing, key in _named(trainer)}
    state = _Unpickler(io.BytesIO(stored.numpy().tobytes()), known, is_set_up).load()
    merge = _Merge(known.values(), is_set_up)
    for name, owner in (*_owners(trainer), *_datasets(trainer)):
        own = vars(owner)
        # past properties and `nn.Module.__setattr__`
        own.update({key: merge.merged(own.get(key), value) for key, value in state.get(name, {}).items()})


def plain_state(trainer: Any) -> dict[str, Any]:
    """Return the numbers and texts among the attributes, by their names."""
    return {
        f"{owner}.{name}": value
        for owner, thing in _owners(trainer)
        for name, value in _attributes(thing).items()
        if isinstance(value, _PLAIN)
    }


def read_attributes(owners: Iterable[Any], kept: Iterable[Any]) -> torch.Tensor | None:
    """Return the attributes of some objects, such as samplers, as bytes in a tensor; None if they cannot be pickled.

    Args:
        owners: The objects.
        kept: Objects among them that are not stored, such as the dataset that they draw from.
    """
    try:
        stored = _dumps([vars(owner) for owner in owners], {id(thing): "" for thing in kept})
    except Exception:  # of the user's class
        return None
    return torch.frombuffer(bytearray(stored), dtype=torch.uint8)


def restore_attributes(owners: Iterable[Any], stored: torch.Tensor) -> None:
    """Restore the result of `read_attributes` into the same number of objects."""
    merge = _Merge([], is_set_up=False)
    found = _Unpickler(io.BytesIO(stored.numpy().tobytes()), {}, is_set_up=False).load()
    for owner, attributes in zip(owners, found, strict=True):
        own = vars(owner)
        own.update({key: merge.merged(own.get(key), value) for key, value in attributes.items()})


def _datasets(trainer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the datasets of the train loaders, including those behind a `Subset`."""
    loaders = [] if trainer.train_dataloader is None else CombinedLoader(trainer.train_dataloader).flattened
    for number, loader in enumerate(loaders):
        dataset, depth = getattr(loader, "dataset", None), 0
        while isinstance(dataset, Dataset):
            yield f"dataset {number}.{depth}", dataset
            dataset, depth = getattr(dataset, "dataset", None), depth + 1


def _data_attributes(dataset: Any, known: dict[int, str]) -> dict[str, Any]:
    """Return the plain attributes of a dataset, except large ones and those that cannot be pickled."""
    found = {}
    for name, value in vars(dataset).items():
        if isinstance(value, (*_PLAIN, *_DATA)) and getattr(value, "nbytes", 0) <= _LARGE_BYTES:
            with suppress(Exception):
                if len(_dumps(value, known)) <= _LARGE_BYTES:
                    found[name] = value
    return found


def plain_attributes(owner: Any) -> dict[str, Any]:
    """Return the numbers and texts among the attributes of one object."""
    return {name: value for name, value in vars(owner).items() if isinstance(value, _PLAIN)}


def _owners(trainer: Any) -> Iterator[tuple[str, Any]]:
    """Yield every object with Python state, and a name that is the same in each training of a module."""
    module = trainer.lightning_module
    for name, part in module.named_modules():
        if not isinstance(part, torch.jit.ScriptModule) and not type(part).__module__.startswith("torch._dynamo"):
            yield ".".join(filter(None, (type(module).__name__, name))), part
    if trainer.datamodule is not None:
        yield f"data module {type(trainer.datamodule).__name__}", trainer.datamodule
    for number, callback in enumerate(_user_callbacks(trainer)):
        yield f"callback {number} {type(callback).__name__}", callback


def _user_callbacks(trainer: Any) -> list[Any]:
    theirs = ("lightning.", "pytorch_lightning.")
    return [
        callback
        for callback in trainer.callbacks
        if not isinstance(callback, AnyCallback) and not type(callback).__module__.startswith(theirs)
    ]


def _attributes(owner: Any) -> dict[str, Any]:
    """Return the attributes that do not come from torch or Lightning, without methods bound to the instance."""
    bare = _BARE_MODULE if isinstance(owner, nn.Module) else frozenset()
    for namespace in NAMESPACES:
        if isinstance(owner, namespace.LightningModule | namespace.LightningDataModule):
            bare = _BARE_LIGHTNING
    return {
        name: value for name, value in vars(owner).items() if name not in bare and not isinstance(value, _FUNCTIONS)
    }


def _names_of_bare(*owners: Any) -> frozenset[str]:
    return frozenset(name for owner in owners for name in vars(owner)) - {"training"}


_BARE_MODULE = _names_of_bare(nn.Module())
_BARE_LIGHTNING = _names_of_bare(
    *(kind() for namespace in NAMESPACES for kind in (namespace.LightningModule, namespace.LightningDataModule))
)


def _named(trainer: Any) -> Iterator[tuple[Any, str]]:
    """Yield each object that a new training also has, with its name."""
    module = trainer.lightning_module
    yield trainer, "trainer"
    yield trainer.strategy, "strategy"
    for name, part in module.named_modules(remove_duplicate=False):
        yield part, f"module {name}"
    for name, parameter in module.named_parameters(remove_duplicate=False):
        yield parameter, f"tensor {name}"
    for name, buffer in module.named_buffers(remove_duplicate=False):
        yield buffer, f"tensor {name}"
    if trainer.datamodule is not None:
        yield trainer.datamodule, "data module"
    configs = [config.scheduler for config in trainer.lr_scheduler_configs]
    lists = {
        "callback": trainer.callbacks, "logger": trainer.loggers, "optimizer": trainer.optimizers, "scheduler": configs
    }  # fmt: skip
    for kind, things in lists.items():
        for number, thing in enumerate(things):
            yield thing, f"{kind} {number}"


def _known(trainer: Any) -> dict[int, str]:
    known = {id(thing): key for thing, key in _named(trainer)}
    for value in [] if trainer.datamodule is None else vars(trainer.datamodule).values():
        if isinstance(value, torch.Tensor | np.ndarray) and value.nbytes > _LARGE_BYTES:
            known[id(value)] = ""
    return known


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, known: dict[int, str]) -> None:
        super().__init__(file, protocol=5)
        self._known = known

    def persistent_id(self, thing: Any) -> str | None:
        """Return the name of an object that is not stored; empty if the new training keeps it as its own."""
        if isinstance(thing, _PLAIN):
            return None
        key = self._known.get(id(thing))
        if key is not None:
            return key
        return "" if _is_never_stored(thing) else None


def _is_never_stored(thing: Any) -> bool:
    if isinstance(thing, Dataset) and not isinstance(thing, IterableDataset):
        return not any(hasattr(type(thing), method) for method in _GROWS)
    # the wrappers of LightningModule.optimizers() belong to the new training's optimizers
    return isinstance(thing, _NEVER_STORED) or type(thing).__name__ == "LightningOptimizer"


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, known: dict[str, Any], is_set_up: bool) -> None:
        super().__init__(file)
        self._known, self._is_set_up = known, is_set_up

    def persistent_load(self, key: str) -> Any:
        """Return the object of a name in this training."""
        if not key or not (self._is_set_up or key in self._known):
            return _OWN
        if key not in self._known:
            raise InputError(f"a paused training cannot be resumed: its {key} is made during the training.")
        return self._known[key]


def _dumps(state: Any, known: dict[int, str]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, known).dump(state)
    return file.getvalue()


def _why_not_stored(
    state: dict[str, dict[str, Any]], known: dict[int, str], owners: dict[str, Any], error: Exception
) -> str:
    for owner, attributes in state.items():
        for name, value in attributes.items():
            try:
                _dumps(value, known)
            except Exception as err:
                return (
                    f"{type(owners[owner]).__name__}.{name} cannot be stored with a pause "
                    f"({type(err).__name__}: {str(err).splitlines()[0] if str(err) else 'no message'})"
                )
    return f"the module's attributes cannot be stored with a pause ({error})"


class _Merge:
    """Makes a training's own objects equal to stored ones, in place if possible.

    Shared objects stay shared.

    Args:
        known: Objects that already belong to this training.
        is_set_up: Whether it has all objects that it makes before its first step.
    """

    def __init__(self, known: Iterable[Any], is_set_up: bool) -> None:
        self._is_set_up = is_set_up
        self._done = {id(thing): thing for thing in known}
        self._taken = set(self._done)

    def merged(self, own: Any, stored: Any) -> Any:
        """Return the object for a place.

        Args:
            own: This training's object there; None if there is none.
            stored: The paused training's object there.

        Raises:
            InputError: The paused training's object was not stored, and this training has none.
        """
        if stored is _OWN:
            if own is None and self._is_set_up:
                raise InputError("a paused training cannot be resumed: it has made something that cannot be stored.")
            return own
        if isinstance(stored, _PLAIN):
            return stored
        if id(stored) not in self._done:
            if type(own) is not type(stored) or id(own) in self._taken:
                own = stored
            # noted before its parts are merged, because an object may contain itself
            self._done[id(stored)] = own
            self._taken.add(id(own))
            self._done[id(stored)] = self._fill(own, stored)
        return self._done[id(stored)]

    def _fill(self, own: Any, stored: Any) -> Any:
        """Make an object equal to a stored one of its type, which may be the same object, and return it."""
        if isinstance(stored, dict):
            self._fill_dict(own, stored)
        elif isinstance(stored, list | deque):
            items = [self.merged(*pair) for pair in zip(_padded(own, stored), stored, strict=True)]
            if isinstance(stored, deque) and own.maxlen != stored.maxlen:
                own = stored
            own.clear()
            own.extend(items)
        elif isinstance(stored, set):
            elements = set(stored)
            own.clear()
            own.update(elements)
        elif type(stored) is tuple:
            return tuple(self.merged(*pair) for pair in zip(_padded(own, stored), stored, strict=True))
        elif isinstance(stored, torch.Generator):
            own.set_state(stored.get_state())
        elif isinstance(stored, np.random.Generator):
            own.bit_generator.state = stored.bit_generator.state
        elif isinstance(stored, random.Random):
            own.setstate(stored.getstate())
        elif _is_made_of_attributes(stored):
            attributes = {name: value for name, value in vars(stored).items() if not isinstance(value, _FUNCTIONS)}
            vars(own).update({name: self.merged(vars(own).get(name), value) for name, value in attributes.items()})
        else:
            return stored
        return own

    def _fill_dict(self, own: Any, stored: dict[Any, Any]) -> None:
        items = {key: self.merged(own.get(key) if own is not stored else None, value) for key, value in stored.items()}
        own.clear()
        own.update(items)


def _padded(own: Any, stored: Any) -> list[Any]:
    """Return the items of an own sequence, padded with None to the length of the stored one."""
    items = [] if own is stored else list(own)[: len(stored)]
    return items + [None] * (len(stored) - len(items))


def _is_made_of_attributes(thing: Any) -> bool:
    """Return whether an object consists only of its `__dict__`."""
    if not hasattr(thing, "__dict__") or isinstance(thing, torch.Tensor | np.ndarray | type):
        return False
    kind = type(thing)
    # a type with custom pickling may have more
    return isinstance(thing, nn.Module) or (kind.__reduce_ex__, kind.__reduce__) == _PICKLED_BY_ATTRIBUTES
