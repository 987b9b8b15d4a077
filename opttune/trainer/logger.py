"""A logger that accepts any call and stores nothing, for user code that needs a logger."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch.loggers.logger
import pytorch_lightning.loggers.logger

from opttune.trainer.internals import deliver_no_metrics

_FOLDER = os.path.join("lightning_logs", "opttune")


class _AnyExperiment:
    """Accepts any call, name or key; as a path, it is the logger's folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> Any:
        # copy and pickle ask for Python's special names
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __fspath__(self) -> str:
        return self.folder


class AnyLogger(  # type: ignore[misc]
    lightning.pytorch.loggers.logger.DummyLogger, pytorch_lightning.loggers.logger.DummyLogger
):
    """Lightning logger that accepts any call, for the Trainers of both names, with a folder for users' files.

    Args:
        root: The Trainer's `default_root_dir`.
    """

    def __init__(self, root: str) -> None:
        super().__init__()
        # not the root itself, where it might overwrite the user's files
        self._folder = os.path.join(root, _FOLDER)
        self._experiment: Any = _AnyExperiment(self._folder)

    @property
    def save_dir(self) -> str:
        """The folder; it exists, unless it is outside the file system."""
        if "://" not in self._folder:
            os.makedirs(self._folder, exist_ok=True)
        return self._folder

    @property
    def log_dir(self) -> str:
        """The same folder."""
        return self.save_dir

    @property
    def root_dir(self) -> str:
        """The same folder."""
        return self.save_dir

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyExperiment(self._folder)


def remove_unused_folder(root: str) -> None:
    """Remove the logger's folder if it is empty, because Lightning asks for its path in every fit.

    Args:
        root: The Trainer's `default_root_dir`.
    """
    folder = Path(root, _FOLDER)
    for each in (folder, folder.parent):
        with suppress(OSError):
            each.rmdir()


def add_logger(trainer: Any, module: Any = None) -> None:
    """Give a Trainer without a logger one that accepts any call; it receives no metrics of the module."""
    if not trainer.loggers:
        trainer.loggers = [AnyLogger(str(trainer.default_root_dir))]
        if module is not None:
            deliver_no_metrics(trainer, module)
