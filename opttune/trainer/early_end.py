"""End a Trainer's fit early, from inside a hook, with or without a last validation.

An exception from a hook would make loggers report a failure; `should_stop` ends the run normally.
"""

from typing import Any

from opttune.trainer.internals import without_minimums
from opttune.trainer.namespaces import NAMESPACES

_EARLY_STOPPING = tuple(namespace.callbacks.EarlyStopping for namespace in NAMESPACES)
_MODEL_CHECKPOINT = tuple(namespace.callbacks.ModelCheckpoint for namespace in NAMESPACES)


class EarlyEnd:
    """Ends a fit early and restores the Trainer's settings afterwards."""

    def __init__(self) -> None:
        self._changed: list[tuple[Any, str, Any]] = []

    def end(self, trainer: Any, validate: bool) -> None:
        """Make this batch the last one.

        Args:
            trainer: The Trainer that is fitting, in `on_train_batch_end`.
            validate: Whether a validation follows, even within an epoch.
        """
        if validate:
            every = trainer.check_val_every_n_epoch
            # unchanged if a validation is due anyway: ModelCheckpoint uses it to decide when to save
            if every is not None and (trainer.current_epoch + 1) % every != 0:
                self._set(trainer, "check_val_every_n_epoch", None)
        else:
            self._set(trainer, "limit_val_batches", 0)
            self._need_no_metric(trainer)
        for owner, name, value in without_minimums(trainer):
            self._set(owner, name, value)
        trainer.should_stop = True

    def restore(self) -> None:
        """Restore what `end` changed, if anything."""
        while self._changed:
            owner, name, value = self._changed.pop()
            setattr(owner, name, value)

    def _need_no_metric(self, trainer: Any) -> None:
        """Keep callbacks and schedules from raising when the metric that they monitor is missing."""
        for callback in trainer.callbacks:
            if isinstance(callback, _EARLY_STOPPING):
                self._set(callback, "strict", False)
            elif isinstance(callback, _MODEL_CHECKPOINT) and callback.monitor is not None:
                self._set(callback, "save_top_k", 0)
        for config in trainer.lr_scheduler_configs:
            self._set(config, "strict", False)

    def _set(self, owner: Any, name: str, value: object) -> None:
        before = getattr(owner, name)
        # several may end one fit: only the one that changes a setting restores it
        if before != value:
            self._changed.append((owner, name, before))
            setattr(owner, name, value)
