"""Load the object of a reference `path/file.py:name` or `package.module:name`."""

import sys
import traceback
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any
from zlib import crc32

from opttune.errors import InputError, one_of


def load_reference(reference: str, what: str) -> Any:
    """Load the object of a reference.

    A file's folder is added to `sys.path`, as Python does for a script, so that its own imports work.

    Args:
        reference: `path/file.py:name` or `package.module:name`.
        what: Its name in errors: `MODEL` or `DATA`.

    Raises:
        InputError: There is no such file, module or name, or the import fails.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"{what}: {reference!r} must be path/file.py:name or package.module:name.")
    module = _load_file(Path(place), what) if place.endswith(".py") else _load_module(place, what)
    try:
        return getattr(module, name)
    except AttributeError:
        raise InputError(f"{what}: {place} has no {name!r}. {one_of(_names_of(module), name)}") from None


def require_file(path: str | Path, what: str) -> None:
    """Refuse a path without a file.

    Raises:
        InputError: There is none.
    """
    if not Path(path).is_file():
        raise InputError(f"{what}: there is no file {path}.")


def _names_of(module: ModuleType) -> list[str]:
    """Return the public names of a module, without what it imports; all of them if it only imports."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    own = [name for name, value in public.items() if not _is_imported(value, module)]
    return own or list(public)


def _is_imported(value: object, module: ModuleType) -> bool:
    is_code = isinstance(value, type | FunctionType)
    return isinstance(value, ModuleType) or (is_code and value.__module__ != module.__name__)


def absolute_reference(reference: str) -> str:
    """Return a reference that is valid in any folder.

    Example:
        >>> absolute_reference("/models/net.py:Net"), absolute_reference("package.module:name")
        ('/models/net.py:Net', 'package.module:name')
    """
    place, _, name = reference.rpartition(":")
    return f"{Path(place).resolve()}:{name}" if place.endswith(".py") else reference


def _load_file(path: Path, what: str) -> ModuleType:
    require_file(path, what)
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{what}: {path} is not a Python file.")
    module = module_from_spec(spec)
    # dataclasses and pickle look up a class's module by name
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as err:
        del sys.modules[name]
        raise InputError(f"{what}: {path} fails when it is imported: {describe_error(err)}") from err
    return module


def _module_name(path: Path) -> str:
    """Return the file's stem, or a unique name if it is taken: by another `train.py`, or for a `random.py`."""
    known = sys.modules.get(path.stem)
    taken = known is not None and getattr(known, "__file__", None) != str(path)
    if taken or path.stem in sys.stdlib_module_names:
        return f"{path.stem}_{crc32(str(path).encode()):08x}"
    return path.stem


def _load_module(name: str, what: str) -> ModuleType:
    # the first entry of sys.path is the folder of the command, not the user's working folder
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return import_module(name)
    except ModuleNotFoundError as err:
        if err.name is not None and f"{name}.".startswith(f"{err.name}."):
            raise InputError(f"{what}: there is no module {err.name!r}.") from None
        raise InputError(f"{what}: {name} fails when it is imported: {describe_error(err)}") from err
    except (Exception, SystemExit) as err:
        raise InputError(f"{what}: {name} fails when it is imported: {describe_error(err)}") from err


def describe_error(err: BaseException) -> str:
    """Return an error of the user's code on one line, with its file and line."""
    frame = traceback.extract_tb(err.__traceback__)[-1]
    return f"{type(err).__name__}: {' '.join(str(err).split())} ({frame.filename}:{frame.lineno})"
