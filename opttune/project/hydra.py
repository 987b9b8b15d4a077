"""Read a Hydra project: its config, and the objects of its `_target_` nodes.

The project's script does not run. Model, data, callbacks and the Trainer's arguments come from the nodes of these
names, as in the widely used Lightning-Hydra template.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opttune.errors import InputError, MissingExtraError, one_of

_MODEL = ("model", "module", "lit_module", "lightning_module", "pl_module")
_DATA = ("data", "datamodule", "data_module", "dm")
_USUAL_NAMES = ("train", "config", "main")
_ROOT_MARKS = (".project-root", "pyproject.toml", "setup.py", ".git")
_OUTPUT = "outputs/opttune"


@dataclass(frozen=True, slots=True)
class HydraSource:
    """The source of a Hydra project.

    Attributes:
        folder: The folder of its configs, absolute.
        name: The name of its primary config.
        overrides: Overrides of the config, such as `model.net.width=8` and `experiment=small`.
    """

    folder: str
    name: str
    overrides: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The config, for messages."""
        return f"{Path(self.folder).name}/{self.name}.yaml"

    @property
    def file(self) -> Path:
        """The primary config."""
        return Path(self.folder) / f"{self.name}.yaml"

    def to_text(self) -> str:
        """Return the source as a line of text that is valid in any folder."""
        return json.dumps({"hydra": asdict(self)})

    @classmethod
    def from_text(cls, text: str) -> "HydraSource":
        """Read back the result of `to_text`.

        Example:
            >>> source = HydraSource("/project/configs", "train", ("model.width=8",))
            >>> HydraSource.from_text(source.to_text()) == source
            True
        """
        stored = json.loads(text)["hydra"]
        return cls(stored["folder"], stored["name"], tuple(stored["overrides"]))


def find_hydra(place: str, overrides: tuple[str, ...] = ()) -> HydraSource:
    """Return the project at `CONFIG_DIR[/NAME]`; the default name is `train`, `config`, `main`, or the only file.

    Raises:
        InputError: There is no such config, or the folder has several.
    """
    path = Path(place)
    if path.is_dir():
        names = sorted(each.stem for each in path.glob("*.yaml"))
        usual = [name for name in _USUAL_NAMES if name in names] or names
        if not usual or (len(usual) > 1 and usual[0] not in _USUAL_NAMES):
            raise InputError(f"--hydra: which config of {place}? Give {place}/NAME. {one_of(names)}")
        path = path / usual[0]
    path = path.with_name(f"{path.name.removesuffix('.yaml')}.yaml").absolute()
    if not path.is_file():
        raise InputError(f"--hydra: there is no config {place}. Give CONFIG_DIR or CONFIG_DIR/NAME.")
    return HydraSource(str(path.parent), path.stem, overrides)


class OpenHydra:
    """A Hydra project with its config; each `make` makes a new model, data and Trainer arguments.

    Raises:
        MissingExtraError: Hydra is not installed.
        InputError: The config cannot be read, or has no model.
    """

    def __init__(self, source: HydraSource) -> None:
        if find_spec("hydra") is None:
            raise MissingExtraError(
                "--hydra reads projects of Hydra, which is not installed. Install it with: pip install 'opttune[hydra]'"
            )
        self._source = source
        self.datamodule: Any = None
        self.trainer: dict[str, Any] = {}
        _share_imports(Path(source.folder))
        self._config = self._compose()
        if self._config.get("ckpt_path"):
            raise InputError(
                f"the config sets ckpt_path: {self._config.ckpt_path}, but a search trains from the beginning. "
                "Add to the command: -- ckpt_path=null"
            )

    @property
    def seed(self) -> int | None:
        """The config's seed; None if it is not an integer."""
        seed = self._config.get("seed")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    def make(self) -> Any:
        """Make model, data and Trainer arguments, and return the model."""
        self.datamodule = self._instantiate(self._data) if self._data else None
        model = self._instantiate(self._model)
        names = [str(name) for name in self._config.get("trainer") or {}]
        given = [name for name in names if name != "logger" and not name.startswith("_")]
        self.trainer = {name: self._instantiate("trainer", name, _convert_="all") for name in given}
        self.trainer["callbacks"] = [*_as_list(self.trainer.get("callbacks")), *self._callbacks()]
        # not created, because some loggers start a run at once
        self.trainer["logger"] = bool(self._config.get("logger") or ("logger" in names and self._config.trainer.logger))
        return model

    @cached_property
    def _model(self) -> str:
        found = self._find(_MODEL)
        if not found:
            raise InputError(
                f"{self._source.words} has no node {_MODEL[0]!r} with a _target_, got the nodes "
                f"{', '.join(map(str, self._config))}. Write a function that makes the model instead: "
                "opttune search path/file.py:make_model path/file.py:make_data"
            )
        return found

    @cached_property
    def _data(self) -> str:
        return self._find(_DATA)

    def _find(self, names: tuple[str, ...]) -> str:
        return next((name for name in names if _is_target(self._config.get(name))), "")

    def _callbacks(self) -> list[Any]:
        nodes = self._config.get("callbacks") or {}
        keys = list(nodes) if isinstance(nodes, Mapping) else list(range(len(nodes)))
        return [self._instantiate("callbacks", key) for key in keys if _is_target(nodes[key])]

    def _compose(self) -> Any:
        from hydra import compose, initialize_config_dir
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import open_dict

        try:
            with initialize_config_dir(config_dir=self._source.folder, version_base=None):
                config = compose(self._source.name, list(self._source.overrides), return_hydra_config=True)
        except Exception as err:  # of Hydra's grammar, of OmegaConf or of YAML
            raise InputError(f"{self._source.words}: {_words_of(err)}") from err
        with open_dict(config.hydra):
            # as in a run of the project, but in one folder for all trainings
            config.hydra.runtime.output_dir = str(Path(_OUTPUT).absolute())
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config

    def _instantiate(self, *path: Any, **how: Any) -> Any:
        from hydra.utils import instantiate

        try:
            node = self._config
            for name in path:
                node = node[name]
            return instantiate(node, **how) if _is_container(node) else node
        except Exception as err:  # the user's code may raise anything
            raise InputError(
                f"{self._source.words}: the node {'.'.join(map(str, path))} cannot be made: {_words_of(err)}. Where "
                "the project's script adds something, write a function that makes it instead: "
                "opttune search path/file.py:make_model path/file.py:make_data"
            ) from err


def _share_imports(folder: Path) -> None:
    """Make the project's packages importable, and set its root as in the template."""
    root = next((each for each in folder.parents if any((each / mark).exists() for mark in _ROOT_MARKS)), folder.parent)
    os.environ.setdefault("PROJECT_ROOT", str(root))
    for place in (root / "src", folder.parent, root):
        if place.is_dir() and str(place) not in sys.path:
            sys.path.insert(0, str(place))


def _is_container(node: Any) -> bool:
    from omegaconf import OmegaConf

    return bool(OmegaConf.is_config(node))


def _is_target(node: Any) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def _as_list(callbacks: Any) -> list[Any]:
    return [] if callbacks is None else list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _words_of(err: BaseException) -> str:
    """Return an error and its first cause on one line, because Hydra wraps errors of the user's code."""
    cause = err
    while cause.__cause__ is not None:
        cause = cause.__cause__
    words = " ".join(str(err).split())
    return words if cause is err else f"{words} ({type(cause).__name__}: {' '.join(str(cause).split())})"
