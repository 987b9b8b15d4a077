"""Several callbacks as one, for the doors that are a single callback on the user's own Trainer."""

from typing import Any

from opttune.trainer.namespaces import AnyCallback


class CallbackGroup(AnyCallback):
    """Hands each hook that opttune uses to its parts, in their order.

    Args:
        parts: The callbacks to act as one.
    """

    def __init__(self, *parts: AnyCallback) -> None:
        super().__init__()
        self.parts = parts

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Hand on."""
        for part in self.parts:
            part.setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_train_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_train_epoch_start(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_validation_start(trainer, pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Hand on."""
        for part in self.parts:
            part.on_exception(trainer, pl_module, exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Hand on."""
        for part in self.parts:
            part.teardown(trainer, pl_module, stage)
