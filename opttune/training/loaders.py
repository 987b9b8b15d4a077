"""Collections of loaders, as `Trainer.fit` takes them."""

from collections.abc import Callable
from copy import copy
from typing import Any

from torch.utils.data import DataLoader

from opttune.trainer.namespaces import NAMESPACES

_COMBINED = tuple(namespace.utilities.CombinedLoader for namespace in NAMESPACES)


def is_loaders(thing: object) -> bool:
    """Return whether an object is a loader, or a collection as `map_loaders` takes it.

    Example:
        >>> is_loaders(([], [])), is_loaders(len)
        (True, False)
    """
    return isinstance(thing, (list, tuple, dict, DataLoader, *_COMBINED))


def map_loaders(change: Callable[[Any], Any], loaders: Any) -> Any:
    """Return a collection of the same kind with each of its loaders changed.

    Args:
        change: A loader, or anything else that is no collection -> its replacement.
        loaders: A loader, or lists, tuples, dicts and CombinedLoaders of them.

    Example:
        >>> map_loaders(len, {"a": "one", "b": ["three", "loaders"]})
        {'a': 3, 'b': [5, 7]}
    """
    if type(loaders) in (list, tuple):
        return type(loaders)(map_loaders(change, loader) for loader in loaders)
    if type(loaders) is dict:
        return {name: map_loaders(change, loader) for name, loader in loaders.items()}
    if isinstance(loaders, _COMBINED):
        combined = copy(loaders)
        combined.flattened = [change(loader) for loader in loaders.flattened]
        return combined
    return change(loaders)
