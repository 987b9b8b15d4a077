"""Measure the time of an optimizer step, without validations and the first step."""

import time
from typing import Any

import torch

from opttune.trainer.namespaces import AnyCallback


class StepClock(AnyCallback):
    """Measures the mean wall time of a fit's optimizer steps: data, forward, backward and the optimizer.

    It takes a mean, not a median, because some optimizers do most of their work at every tenth step. It leaves out the
    first step, in which code is compiled and memory is reserved; validations, which take the same time for each recipe;
    and the end of the fit, where a checkpoint is written. It must come before the callback that writes one.

    Attributes:
        start_seconds: Wall time from the clock's creation to the first batch: the model, the data, and the fit's setup.
            None before that batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._created = time.perf_counter()
        self.start_seconds: float | None = None
        self._begin_at(0)

    def _begin_at(self, step: int) -> None:
        self._seconds, self._steps, self._last_step = 0.0, 0, step
        self._has_begun = self._has_ended = False
        self._since: float | None = None

    @property
    def step_seconds(self) -> float | None:
        """Seconds per step; None before the second step, and if an error has ended the fit too early."""
        return self._seconds / self._steps if self._steps and self._since is None else None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start at the step that a resumed fit has reached."""
        self.start_seconds = time.perf_counter() - self._created
        self._begin_at(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step; the clock starts at the end of the first one."""
        done, self._last_step = trainer.global_step - self._last_step, trainer.global_step
        if done and not self._has_begun:
            self._has_begun = True
            self._start(trainer)
        elif self._since is not None:
            self._steps += done

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock."""
        self._stop(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock again, unless the training has not started yet, or is over."""
        if self._has_begun and not self._has_ended:
            self._start(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock after the last step."""
        if trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step:
            self._end(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock."""
        self._end(trainer)

    def _end(self, trainer: Any) -> None:
        self._stop(trainer)
        self._has_ended = True

    def _start(self, trainer: Any) -> None:
        _wait_for_device(trainer)
        self._since = time.perf_counter()

    def _stop(self, trainer: Any) -> None:
        if self._since is not None:
            _wait_for_device(trainer)
            self._seconds += time.perf_counter() - self._since
            self._since = None


def _wait_for_device(trainer: Any) -> None:
    """Wait until the device has finished its work; this happens outside steps, a few times per training."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
