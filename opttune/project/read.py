"""Read a project: the model, the data and the Trainer settings from its config.

For a LightningCLI project, opttune runs the script as `python main.py fit --config config.yaml` would, with one
difference: the LightningCLI stops as soon as it has read its arguments. Classes, defaults, linked arguments and
environment variables therefore work as in the project. For each attempt the CLI makes a new model and new data. For a
Hydra project, opttune composes the config and instantiates its nodes (`opttune.project.hydra`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any

from opttune.errors import InputError, MissingExtraError
from opttune.project.hydra import HydraSource, OpenHydra
from opttune.project.start import CliSource, start_cli
from opttune.trainer.logger import add_logger
from opttune.trainer.namespaces import NAMESPACES
from opttune.training.isolation import quiet_lightning

# callbacks whose work opttune does itself in a search; both Lightning packages use the same names
_LEFT_OUT = {
    "Checkpoint", "ProgressBar", "ModelSummary", "LearningRateMonitor", "DeviceStatsMonitor", "LearningRateFinder",
    "BatchSizeFinder",
}  # fmt: skip
_OURS = {
    "callbacks", "logger", "max_epochs", "max_steps", "enable_checkpointing", "enable_progress_bar",
    "enable_model_summary", "num_sanity_val_steps",
}  # fmt: skip
# other settings that a search does not use
_DROPPED = ("max_time", "logger")


Source = CliSource | HydraSource


@dataclass(frozen=True, slots=True)
class Project:
    """The settings in a project's config.

    Attributes:
        model: Factory of the model.
        data: Factory of the data of the latest model; returns None if the model has its own data.
        trainer: Arguments of the Trainer, without those that opttune sets itself.
        length: `{"max_steps": n}` or `{"max_epochs": n}`; both if the config sets both, because Lightning ends a
            training at the first of them; empty if it sets neither.
        watched: The metric and mode that its callbacks watch; None if they watch none or several.
        seed: Its `seed_everything`; None if that is not an integer.
        notes: The found and the omitted parts, one sentence each.
    """

    model: "ProjectModel"
    data: "ProjectData"
    trainer: Mapping[str, Any]
    length: Mapping[str, int]
    watched: tuple[str, str] | None
    seed: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ProjectModel:
    """Makes a new model of the project, and its data; each process starts the project's CLI itself.

    Attributes:
        source: The source of the project.
        __name__: The name of the model's class.
    """

    source: Source
    __name__: str

    @property
    def file(self) -> Path:
        """The project's script, or its config if there is no script."""
        if isinstance(self.source, HydraSource):
            return self.source.file
        return Path(self.source.script.rpartition(":")[0] or self.source.script or self.source.configs[0]).resolve()

    def __call__(self) -> Any:
        """Return a model."""
        return _open(self.source).make()


@dataclass(frozen=True)
class ProjectData:
    """Returns the data of the latest model.

    Attributes:
        source: The source of the project.
    """

    source: Source

    def __call__(self) -> Any:
        """Return a LightningDataModule, or None."""
        return _open(self.source).datamodule


def read_source(text: str) -> Source:
    """Return the source that a study keeps as text."""
    return HydraSource.from_text(text) if text.startswith('{"hydra"') else CliSource.from_text(text)


def load_project(source: Source) -> Project:
    """Start a project's LightningCLI, or compose its Hydra config, and read the settings for a search.

    Args:
        source: The source of the project.

    Raises:
        MissingExtraError: jsonargparse or Hydra is not installed.
        InputError: A file is missing or wrong, or the project cannot be started.
    """
    lacks_parser = find_spec("jsonargparse") is None or find_spec("docstring_parser") is None
    if isinstance(source, CliSource) and lacks_parser:
        raise MissingExtraError(
            "--config reads projects of the LightningCLI, which needs jsonargparse. "
            "Install it with: pip install 'opttune[cli]'"
        )
    _OPENED.pop(source, None)
    opened = _open(source)
    model = opened.make()
    given = _given(opened.trainer)
    callbacks, left_out = _split_callbacks(given.get("callbacks"))
    dropped = [name for name in _DROPPED if given.get(name)]
    settings = {name: value for name, value in given.items() if name not in {*_OURS, *_DROPPED}}
    notes = [f"The model is {type(model).__name__}, from {source.words}."]
    if left_out or dropped:
        notes.append(f"Left out in the search: {', '.join([*left_out, *dropped])}.")
    if len(length := _length(given)) > 1:
        notes.append(f"A training ends at the first of {' and '.join(f'{n}={v}' for n, v in length.items())}.")
    return Project(
        model=ProjectModel(source, type(model).__name__),
        data=ProjectData(source),
        trainer={**settings, "callbacks": callbacks} if callbacks else settings,
        length=length,
        watched=_watched(given.get("callbacks")),
        seed=opened.seed,
        notes=tuple(notes),
    )


class _OpenCli:
    """A LightningCLI that has read its arguments; each `make` makes a new model, data and Trainer arguments."""

    def __init__(self, cli: Any) -> None:
        self._cli = cli
        self._config = cli.config.clone()
        self._trainer_class = cli.trainer_class
        cli.trainer_class = self._keep_arguments
        cli.save_config_callback = None
        self.datamodule: Any = None
        self.trainer: dict[str, Any] = {}
        self._refuse_a_checkpoint()

    @property
    def seed(self) -> int | None:
        seed = self._section().get("seed_everything")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    def make(self) -> Any:
        """Make model, data and Trainer arguments, and return the model."""
        cli = self._cli
        cli.config = self._config.clone()
        cli.before_instantiate_classes()
        cli.instantiate_classes()
        made = list(cli.trainer.callbacks)
        cli.after_instantiate_classes()
        given = [each for each in _as_list(self.trainer.get("callbacks")) if _holds(cli.trainer.callbacks, each)]
        added = [each for each in cli.trainer.callbacks if not _holds(made, each)]
        self.trainer["callbacks"] = [*given, *added]
        self.datamodule = cli.datamodule
        return cli.model

    def _keep_arguments(self, **given: Any) -> Any:
        """Keep the arguments of the Trainer, and return one for the project's hooks; no training runs in it."""
        self.trainer = given
        quiet = {**given, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        with quiet_lightning():
            try:
                trainer = self._trainer_class(**quiet)
            except Exception:  # its devices may be on another machine, or replaced by the command
                kept = ("callbacks", "logger", "default_root_dir", "max_epochs", "max_steps")
                given_to = {name: quiet[name] for name in kept if name in quiet}
                trainer = _namespace(self._trainer_class).Trainer(accelerator="cpu", **given_to)
        add_logger(trainer)
        return trainer

    def _section(self) -> Any:
        """Return the part of the config for fit."""
        return self._config.get(self._cli.subcommand, self._config) if self._cli.subcommand else self._config

    def _refuse_a_checkpoint(self) -> None:
        path = self._section().get("ckpt_path")
        if path:
            raise InputError(
                f"the config sets ckpt_path: {path}, but a search trains from the beginning. "
                "Add to the command: -- --ckpt_path=null"
            )


_OPENED: dict[Source, _OpenCli | OpenHydra] = {}


def _open(source: Source) -> _OpenCli | OpenHydra:
    """Return the project's CLI or config, which is started or read once per process."""
    if source not in _OPENED:
        _OPENED[source] = OpenHydra(source) if isinstance(source, HydraSource) else _OpenCli(start_cli(source))
    return _OPENED[source]


def _given(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a Trainer that differ from its defaults."""
    defaults = {name: parameter.default for name, parameter in signature(NAMESPACES[0].Trainer).parameters.items()}
    return {name: value for name, value in trainer.items() if name not in defaults or value != defaults[name]}


def _as_list(callbacks: Any) -> list[Any]:
    return callbacks if isinstance(callbacks, list) else [] if callbacks is None else [callbacks]


def _namespace(trainer_class: Any) -> ModuleType:
    """Return the Lightning package of a Trainer class."""
    bases = trainer_class.__mro__ if isinstance(trainer_class, type) else ()
    return next((each for each in NAMESPACES if each.Trainer in bases), NAMESPACES[0])


def _holds(callbacks: list[Any], callback: Any) -> bool:
    return any(each is callback for each in callbacks)


def _split_callbacks(callbacks: Any) -> tuple[list[Any], list[str]]:
    """Return the callbacks that a search uses, and the names of those whose work opttune does."""
    kept, left_out = [], []
    for callback in _as_list(callbacks):
        if _LEFT_OUT & {cls.__name__ for cls in type(callback).__mro__}:
            left_out.append(type(callback).__name__)
        else:
            kept.append(callback)
    return kept, left_out


def _length(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the lengths that the config sets; -1 means no limit."""
    lengths = {name: given[name] for name in ("max_steps", "max_epochs") if given.get(name) not in (None, -1)}
    return {name: length for name, length in lengths.items() if isfinite(length)}


def _watched(callbacks: Any) -> tuple[str, str] | None:
    """Return the one monitored metric of the callbacks, and its mode."""
    found = {
        (callback.monitor, callback.mode)
        for callback in _as_list(callbacks)
        if getattr(callback, "monitor", None) and getattr(callback, "mode", None) in ("min", "max")
    }
    return found.pop() if len(found) == 1 else None
