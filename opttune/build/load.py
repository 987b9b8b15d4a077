"""Load the classes and functions that rows of the catalog name by dotted path."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from opttune.catalog.info import OptimizerInfo
from opttune.catalog.lookup import find_optimizer, optimizer_names
from opttune.errors import MissingExtraError
from opttune.recipe import part_names


def load_object(path: Any) -> Any:
    """Return the object at `"package.module.name"`; return anything that is not text unchanged.

    Example:
        >>> load_object("math.sqrt")(4.0)
        2.0
    """
    if not isinstance(path, str):
        return path
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def load_class(info: OptimizerInfo) -> Any:
    """Return the class of an optimizer.

    Raises:
        MissingExtraError: Its extra is not installed.
    """
    try:
        return load_object(info.class_path)
    except ImportError as err:
        if not info.extra:
            raise
        raise MissingExtraError(
            f"optimizer {info.name!r} needs a package that is not installed ({err}). "
            f"Install it with: pip install 'opttune[{info.extra}]'"
        ) from err


def require_classes(optimizers: Iterable[str]) -> None:
    """Load the classes of optimizers, to report a missing one now.

    Args:
        optimizers: Names of the catalog; `own` has no class.

    Raises:
        MissingExtraError: An extra is not installed.
    """
    for name in {part for joined in optimizers for part in part_names(joined)}:
        if not (info := find_optimizer(name)).is_own:
            load_class(info)


def row_of(cls: type) -> OptimizerInfo | None:
    """Return the catalog's row of an optimizer's class, or None.

    Example:
        >>> import torch
        >>> row_of(torch.optim.SGD).name
        'sgd'
    """
    for info in map(find_optimizer, optimizer_names()):
        if info.class_path is cls:
            return info
        for path in (info.class_path, info.base_path):
            if isinstance(path, str) and path:
                module, _, name = path.rpartition(".")
                # a class that has been made is imported already
                if getattr(sys.modules.get(module), name, None) is cls:
                    return info
    return None
