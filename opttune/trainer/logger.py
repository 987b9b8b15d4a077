"""A logger that accepts any call and stores nothing, for user code that needs a logger."""

import os
from collections.abc import Iterator
from typing import Any

import lightning.pytorch.loggers.logger
import pytorch_lightning.loggers.logger

from opttune.trainer.internals import deliver_no_metrics
from opttune.trainer.namespaces import AnyCallback

_FOLDER = os.path.join("lightning_logs", "opttune")


class _AnyExperiment:
    """Accepts any call, name or key; as a path, it is the logger's folder.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: "AnyLogger") -> None:
        self.logger = logger

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
        return self.logger.save_dir


class AnyLogger(  # type: ignore[misc]
    lightning.pytorch.loggers.logger.DummyLogger, pytorch_lightning.loggers.logger.DummyLogger
):
    """Lightning logger that accepts any call, for the Trainers of both names, with a folder for users' files.

    Args:
        root: The Trainer's `default_root_dir`.

    Attributes:
        makes_folder: Whether the folder is made when it is asked for.
    """

    def __init__(self, root: str) -> None:
        super().__init__()
        # not the root itself, where it might overwrite the user's files
        self._folder = os.path.join(root, _FOLDER)
        self._experiment: Any = _AnyExperiment(self)
        self.makes_folder = True

    @property
    def save_dir(self) -> str:
        """The folder; it exists, unless it is outside the file system, or Lightning alone has asked for it."""
        if self.makes_folder and "://" not in self._folder:
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
        return _AnyExperiment(self)


class _FolderOnRequest(AnyCallback):
    """Lets the logger make its folder from the first callback on.

    Lightning itself asks for the folder before, in every fit. An empty folder would be left in the user's, and removed
    later it might be missed by another search.
    """

    def __init__(self, logger: AnyLogger) -> None:
        super().__init__()
        self._logger = logger

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._logger.makes_folder = True


def add_logger(trainer: Any, module: Any = None) -> None:
    """Give a Trainer without a logger one that accepts any call.

    Args:
        trainer: The Trainer.
        module: The module that it will fit, whose metrics the logger does not receive; None if it fits none.
    """
    if trainer.loggers:
        return
    logger = AnyLogger(str(trainer.default_root_dir))
    trainer.loggers = [logger]
    if module is not None:
        deliver_no_metrics(trainer, module)
        logger.makes_folder = False
        trainer.callbacks.insert(0, _FolderOnRequest(logger))
