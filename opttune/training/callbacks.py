"""Several callbacks as one, for the entry points that are a single callback in the user's own Trainer."""

from collections.abc import Callable
from typing import Any

from opttune.trainer.namespaces import AnyCallback
from opttune.training.epoch_count import EpochCount
from opttune.training.group_keeper import GroupKeeper
from opttune.training.lazy_layers import LazyLayers

_HOOKS = (
    "setup",
    "on_save_checkpoint",
    "on_load_checkpoint",
    "on_fit_start",
    "on_train_start",
    "on_train_epoch_start",
    "on_before_optimizer_step",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_train_end",
    "on_exception",
    "teardown",
)
"""The hooks that opttune's callbacks use."""


class CallbackGroup(AnyCallback):
    """Calls each hook that opttune uses on its parts, in their order.

    Args:
        parts: The callbacks to act as one.
    """

    def __init__(self, *parts: AnyCallback) -> None:
        super().__init__()
        self.parts = parts


def _on_each_part(hook: str) -> Callable[..., None]:
    def call(self: CallbackGroup, *args: Any, **kwargs: Any) -> None:
        for part in self.parts:
            getattr(part, hook)(*args, **kwargs)

    call.__name__ = hook
    return call


# Lightning asks the class whether a hook is overridden: methods of an instance would not be found
for _hook in _HOOKS:
    setattr(CallbackGroup, _hook, _on_each_part(_hook))


def preparations() -> tuple[AnyCallback, ...]:
    """Return the callbacks that every training with a recipe needs before the user's own callbacks."""
    return EpochCount(), LazyLayers(), GroupKeeper()
