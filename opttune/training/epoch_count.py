"""The number of epochs for modules that read `trainer.max_epochs`, in a training with a length in steps."""

import sys
import warnings
from math import ceil, isfinite
from typing import Any

from opttune.trainer.internals import set_up_training_data
from opttune.trainer.namespaces import AnyCallback
from opttune.training.length import varies_accumulation

_ASK_THE_TRAINER = ("lightning", "pytorch_lightning", "opttune")


class EpochCount(AnyCallback):
    """Sets `Trainer.max_epochs` to the epochs of the given steps, only for the user's code.

    Lightning's value is -1, with which a schedule over the epochs ends at once or cannot be made. For Lightning's own
    code and callbacks it stays -1.
    """

    def __init__(self) -> None:
        super().__init__()
        self._class: type | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Start to count."""
        is_in_steps = trainer.max_epochs == -1 and trainer.max_steps > 0
        if stage == "fit" and is_in_steps and not varies_accumulation(trainer):
            self._class = type(trainer)
            trainer.__class__ = _counting(self._class, trainer.max_steps, type(pl_module).__name__)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the Trainer."""
        self._undo(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the Trainer."""
        self._undo(trainer)

    def _undo(self, trainer: Any) -> None:
        if self._class is not None:
            trainer.__class__, self._class = self._class, None


def _counting(base: Any, steps: int, module: str) -> type:
    """Return a class of Trainers that differs only in `max_epochs`."""
    found: list[int] = []

    def max_epochs(trainer: Any) -> Any:
        asking = str(sys._getframe(1).f_globals.get("__name__", ""))
        if asking.partition(".")[0] in _ASK_THE_TRAINER:
            return base.max_epochs.fget(trainer)
        if not found:
            found.append(_count(trainer, steps, module))
        return found[0]

    return type(base.__name__, (base,), {"max_epochs": property(max_epochs), "__module__": base.__module__})


def _count(trainer: Any, steps: int, module: str) -> int:
    set_up_training_data(trainer)
    batches: float = trainer.num_training_batches
    if isfinite(batches) and batches > 0:
        accumulated: int = trainer.accumulate_grad_batches
        return ceil(steps / ceil(batches / accumulated))
    warnings.warn(
        f"opttune: {module} reads trainer.max_epochs, and the epochs of its training data have no known length: it is "
        "-1. Give the length in epochs (max_epochs, --max-epochs) for a schedule over them.",
        stacklevel=2,
    )
    return -1
