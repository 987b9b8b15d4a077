"""The time of a full training, estimated from the steps and the validation of an inspection."""

from time import monotonic
from typing import Any

from opttune.trainer.namespaces import AnyCallback


class Pace(AnyCallback):
    """Measures the validation of a training of a few steps, and counts its batches."""

    def __init__(self) -> None:
        super().__init__()
        self._batches = 0
        self._validation_began = 0.0
        self._validation_seconds = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch."""
        self._batches += 1

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the time."""
        self._validation_began = monotonic()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the time of the validation."""
        self._validation_seconds = monotonic() - self._validation_began

    def seconds(self, step_seconds: float | None, trainer: Any, total_steps: int) -> float | None:
        """Return the estimated time of a training of the full length; None after too few steps.

        Args:
            step_seconds: Seconds per step, if known.
            trainer: The Trainer whose fit has ended.
            total_steps: Optimizer steps of the full length.
        """
        if step_seconds is None or trainer.global_step == 0:
            return None
        batches = total_steps * self._batches / trainer.global_step
        return total_steps * step_seconds + _validations(trainer, batches) * self._validation_seconds


def _validations(trainer: Any, batches: float) -> float:
    """Return the number of validations in a training of that many batches; one always follows its last step."""
    every = (trainer.val_check_batch or 0) * (trainer.check_val_every_n_epoch or 1)
    return max(1.0, batches / every) if every else 1.0
