"""Load the classes and functions that rows of the catalog name by dotted path."""

from importlib import import_module
from typing import Any

from opttune.catalog.info import OptimizerInfo
from opttune.errors import MissingExtraError


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
