"""Start a project's LightningCLI as the project does, and stop it once it has read its arguments."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from importlib.machinery import SourceFileLoader
from inspect import signature
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from opttune.errors import InputError
from opttune.references import absolute_reference, describe_error, load_reference, require_file
from opttune.trainer.namespaces import NAMESPACES

_CLI_NAME = "LightningCLI"


@dataclass(frozen=True, slots=True)
class CliSource:
    """The source of a LightningCLI project.

    Attributes:
        configs: Its config files; a later one overrides an earlier one.
        script: Its script, or `path/file.py:name` of a function or class that makes the CLI when it is called; empty
            for a plain LightningCLI.
        model: Reference to the model's class, for a plain LightningCLI; empty if the config names it.
        data: Reference to the LightningDataModule's class, for a plain LightningCLI; empty if the config names it.
        arguments: Further arguments of the project's CLI, such as `--model.width=8`.
    """

    configs: tuple[str, ...]
    script: str = ""
    model: str = ""
    data: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The files, for messages."""
        return " and ".join(part for part in (self.script, ", ".join(self.configs)) if part)

    def to_text(self) -> str:
        """Return the source as a line of text that is valid in any folder."""
        references = {name: absolute_reference(getattr(self, name)) for name in ("script", "model", "data")}
        if self.script.endswith(".py"):
            references["script"] = str(Path(self.script).resolve())
        configs = [str(Path(config).resolve()) for config in self.configs]
        return json.dumps({"configs": configs, **references, "arguments": self.arguments})

    @classmethod
    def from_text(cls, text: str) -> "CliSource":
        """Read back the result of `to_text`.

        Example:
            >>> source = CliSource(("/a.yaml",), "/main.py", arguments=("--x=1",))
            >>> CliSource.from_text(source.to_text()) == source
            True
        """
        stored = json.loads(text)
        configs, arguments = tuple(stored.pop("configs")), tuple(stored.pop("arguments"))
        return cls(configs, arguments=arguments, **stored)


class _ReadyError(BaseException):
    """Unwinds the project's script: its CLI has read its arguments."""

    def __init__(self, cli: Any) -> None:
        super().__init__()
        self.cli = cli


def find_script(configs: tuple[str, ...], folder: Path | None = None) -> str:
    """Return the project's script: the one Python file here or beside the config that mentions LightningCLI.

    If there are several, `main.py` is taken.

    Args:
        configs: The config files.
        folder: The working folder.

    Returns:
        Its path; empty if there is none.

    Raises:
        InputError: There are several, and none is `main.py`.
    """
    for place in (folder or Path(), Path(configs[0]).parent):
        found = [path for path in sorted(place.glob("*.py")) if _CLI_NAME in path.read_text(errors="replace")]
        mains = [path for path in found if path.name == "main.py"] or found
        if len(mains) > 1:
            names = ", ".join(map(str, mains))
            raise InputError(f"which script makes the project's {_CLI_NAME}? Give --cli FILE; there are {names}.")
        if mains:
            return str(mains[0])
    return ""


def start_cli(source: CliSource) -> Any:
    """Start a project's CLI.

    Args:
        source: The source of the project.

    Returns:
        The LightningCLI, which has read its arguments but made no objects yet.

    Raises:
        InputError: A file is missing or wrong, or the script makes no LightningCLI.
    """
    for config in source.configs:
        require_file(config, "--config")
    if source.script:
        return _stopped(lambda: _run(source.script), source)
    model = load_reference(source.model, "MODEL") if source.model else None
    data = load_reference(source.data, "DATA") if source.data else None
    # the config may name classes in the working folder
    if "" not in sys.path:
        sys.path.insert(0, "")
    own, other = (_cli_class(namespace) for namespace in NAMESPACES)
    try:
        return _stopped(lambda: own(model, data), source)
    except InputError as first:
        # the model may belong to the other Lightning package
        try:
            return _stopped(lambda: other(model, data), source)
        except InputError:
            raise first from None


def _cli_class(namespace: ModuleType) -> Any:
    return import_module(f"{namespace.__name__}.cli").LightningCLI


def _stopped(start: Callable[[], object], source: CliSource) -> Any:
    said = StringIO()
    try:
        with _stopping_when_ready(source), redirect_stderr(said):
            start()
    except _ReadyError as ready:
        sys.stderr.write(said.getvalue())
        return ready.cli
    except SystemExit as err:
        raise InputError(f"{source.words}: {_parser_words(said.getvalue()) or f'it ends with {err.code}'}") from None
    except InputError:
        raise
    except Exception as err:
        raise InputError(f"{source.script or source.words} fails when it is run: {describe_error(err)}") from err
    raise InputError(f"{source.script} makes no {_CLI_NAME} when it is run. Name the script that does: --cli FILE.")


@contextmanager
def _stopping_when_ready(source: CliSource) -> Iterator[None]:
    """Make each new LightningCLI read the source's arguments and stop."""
    classes = [_cli_class(namespace) for namespace in NAMESPACES]
    originals = [cls.__init__ for cls in classes]
    arguments = list(sys.argv)
    for cls in classes:
        cls.__init__ = _ready_init(cls.__init__, source)
    # what the script would see; with more arguments, the CLI warns that it gets them twice
    sys.argv = [source.script.rpartition(":")[0] or source.script or _CLI_NAME]
    try:
        yield
    finally:
        sys.argv = arguments
        for cls, original in zip(classes, originals, strict=True):
            cls.__init__ = original


def _ready_init(original: Callable[..., None], source: CliSource) -> Callable[..., None]:
    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        def ready() -> None:
            del self.before_instantiate_classes
            raise _ReadyError(self)

        bound = signature(original).bind(self, *args, **kwargs)
        bound.arguments["args"] = _arguments(source, bound.arguments.get("run", True))
        # the CLI calls this hook once it has read its arguments
        self.before_instantiate_classes = ready
        original(*bound.args, **bound.kwargs)

    return __init__


def _arguments(source: CliSource, has_subcommands: bool) -> list[str]:
    """Return the arguments with which the project's script would train."""
    configs = [f"--config={config}" for config in source.configs]
    if not has_subcommands:
        return [*configs, *source.arguments]
    if any(line.startswith("fit:") for config in source.configs for line in Path(config).read_text().splitlines()):
        return [*configs, "fit", *source.arguments]
    return ["fit", *configs, *source.arguments]


def _run(script: str) -> None:
    if not script.endswith(".py"):
        load_reference(script, "--cli")()
        return
    if not Path(script).is_file():
        raise InputError(f"--cli: there is no file {script}.")
    place = Path(script).resolve()
    if str(place.parent) not in sys.path:
        sys.path.insert(0, str(place.parent))
    main = ModuleType("__main__")
    main.__file__ = str(place)
    # kept: its classes are found and pickled under this name, as when Python runs the script
    sys.modules["__main__"] = main
    SourceFileLoader("__main__", str(place)).exec_module(main)


def _parser_words(said: str) -> str:
    """Return, on one line, the error that a parser printed before it ended the process."""
    _, found, words = said.rpartition("error: ")
    return " ".join(words.split()) if found else ""
