"""End a training at a given optimizer step, with a validation, wherever the epoch stands."""

from typing import Any

from opttune.trainer.early_end import EarlyEnd
from opttune.trainer.namespaces import AnyCallback
from opttune.training.attach import count_steps


class FinishWithValidation(AnyCallback):
    """Makes the last step of a training be followed by a validation.

    A Trainer that reaches `max_steps` in mid-epoch runs none by itself.

    Args:
        stop_at_step: End after this optimizer step, or before the first for 0; None for the full length.

    Attributes:
        total_steps: Optimizer steps of the full length, once the training has begun.
    """

    def __init__(self, stop_at_step: int | None = None) -> None:
        super().__init__()
        self.total_steps = 0
        self._stop_at_step = stop_at_step
        self._early_end = EarlyEnd()

    @property
    def _last_step(self) -> int:
        return self.total_steps if self._stop_at_step is None else min(self._stop_at_step, self.total_steps)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find where the end is; with `stop_at_step=0` it is here."""
        self.total_steps = count_steps(trainer)
        if self._last_step == 0:
            self._early_end.end(trainer, validate=False)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After the last step, end with a validation; after a stop by the guard there is none."""
        if trainer.global_step >= self._last_step:
            self._early_end.end(trainer, validate=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Put the Trainer's settings back."""
        self._early_end.restore()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Put the Trainer's settings back."""
        self._early_end.restore()
