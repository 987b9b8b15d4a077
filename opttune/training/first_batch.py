"""The first batch of a training, observed to find the module's operations, or run on a copy before the fit starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from inspect import signature
from types import MethodType
from typing import Any

from lightning.pytorch.utilities import CombinedLoader

from opttune.build.operations import Operations, OperationWatch, watched
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.internals import prepare_batch, set_up_training_data
from opttune.trainer.namespaces import AnyCallback
from opttune.training.data_order import generators_of
from opttune.training.random_state import kept_random_state

_HOOK = "training_step"


class WatchFirstBatch(AnyCallback):
    """Observes the operations of a module in the first batch of a fit.

    Attributes:
        operations: The observed operations; None before the first batch has run.
        has_failed: Whether the batch has raised an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Operations | None = None
        self.has_failed = False
        self._replaced: ReplacedHook | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Bind `training_step` for one call."""
        own = getattr(pl_module, _HOOK)

        @wraps(own)
        def training_step(module: Any, *args: Any, **kwargs: Any) -> Any:
            self._undo()
            watch = OperationWatch(module)
            self.has_failed = True
            with watched(watch):
                result = own(*args, **kwargs)
            self.has_failed, self.operations = False, watch.seen
            return result

        # Lightning unwraps once to see the arguments
        training_step.__wrapped__ = getattr(own, "__wrapped__", own)
        self._replaced = ReplacedHook(pl_module, _HOOK, MethodType(training_step, pl_module))

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module's own hook."""
        self._undo()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the module's own hook."""
        self._undo()

    def _undo(self) -> None:
        if self._replaced is not None:
            self._replaced.restore()
            self._replaced = None


def try_operations(trainer: Any, module: Any) -> Operations | None:
    """Return the operations of a module before its fit starts; None if the first batch cannot run on a copy of it.

    Args:
        trainer: The Trainer, while it sets the fit up.
        module: The module, with all of its layers.
    """
    # it draws the seed of the loaders, as it would later
    set_up_training_data(trainer)
    with kept_random_state():
        try:
            if any(map(_is_used_up, CombinedLoader(trainer.train_dataloader).flattened)):
                return None
            copy = deepcopy(module)
            watch = OperationWatch(copy)
            with trainer.precision_plugin.train_step_context(), watched(watch):
                run_training_step(trainer, copy)
        except Exception:  # the user's code may need objects of a real training
            return None
    return watch.seen


def run_training_step(trainer: Any, copy: Any) -> None:
    """Run the training step of a copy of the module on the first batch; the training's data starts again from there.

    Args:
        trainer: The Trainer, before its fit starts.
        copy: The copy.
    """
    copy.trainer = trainer
    # nothing is logged before the training
    copy.log = copy.log_dict = lambda *_, **__: None
    set_up_training_data(trainer)
    loaders = trainer.train_dataloader
    with _kept_generators(loaders):
        batch = prepare_batch(trainer, next(iter(CombinedLoader(loaders)))[0])
        takes_index = len(signature(copy.training_step).parameters) > 1
        copy.training_step(batch, *([0] if takes_index else []))


def _is_used_up(loader: Any) -> bool:
    """Return whether a loader yields each batch only once, so the training would miss the first."""
    return isinstance(loader, Iterator) or isinstance(getattr(loader, "dataset", None), Iterator)


@contextmanager
def _kept_generators(loaders: Any) -> Iterator[None]:
    found = [generator for loader in CombinedLoader(loaders).flattened for generator in generators_of(loader)]
    before = [generator.get_state() for generator in found]
    try:
        yield
    finally:
        for generator, state in zip(found, before, strict=True):
            generator.set_state(state)
