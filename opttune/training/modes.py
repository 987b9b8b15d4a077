"""Callbacks for optimizers that need more than calls of `step`, as fields of the catalog declare."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from types import MethodType
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel

from opttune.catalog.lookup import find_optimizer
from opttune.errors import ModelError
from opttune.recipe import Recipe
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.namespaces import AnyCallback


def quirk_callbacks(recipe: Recipe) -> tuple[AnyCallback, ...]:
    """Return the callbacks that a recipe's optimizers need to train as their authors intend.

    Example:
        >>> from opttune.recipe import Part
        >>> [type(callback).__name__ for callback in quirk_callbacks(Recipe(Part("schedule_free_adamw")))]
        ['EvalModeSwitch']
    """
    rows = [find_optimizer(part.name) for part in recipe.optimizer.split()]
    callbacks: list[AnyCallback] = []
    if switched := [number for number, info in enumerate(rows) if info.needs_eval_mode_switch]:
        callbacks.append(EvalModeSwitch(None if len(rows) == 1 else switched))
    callbacks += [GraphKeeper(info.name) for info in rows[:1] if info.needs_create_graph]
    return tuple(callbacks)


class EvalModeSwitch(AnyCallback):
    """Switches an optimizer with different weights for training and evaluation (schedule-free).

    Validations, checkpoints and the end of the fit get the weights for evaluation.

    Args:
        numbers: Indices of the module's optimizers to switch; None for all.

    Attributes:
        saves_training_point: Whether checkpoints get the training weights instead: switching there and back is not
            exact to the last digit.
    """

    def __init__(self, numbers: Sequence[int] | None = None) -> None:
        super().__init__()
        self._numbers = numbers
        self.saves_training_point = False
        self._is_training = False
        self._replaced: ReplacedHook | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Switch to the training weights; a checkpoint has restored the others."""
        self._train(trainer)
        own = pl_module.on_save_checkpoint

        # a hook of the module, because for a checkpoint with only weights Lightning calls no callback
        def on_save_checkpoint(module: Any, checkpoint: dict[str, Any]) -> None:
            if self._is_training and not self.saves_training_point:
                self._put_usable_weights(trainer, checkpoint)
            own(checkpoint)

        self._replaced = ReplacedHook(pl_module, "on_save_checkpoint", MethodType(on_save_checkpoint, pl_module))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Switch to the weights to use."""
        if _is_fitting(trainer):
            self._evaluate(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Switch back to the training weights."""
        if _is_fitting(trainer):
            self._train(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the module with the weights to use."""
        self._end(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module with the weights to use."""
        self._end(trainer)

    def _train(self, trainer: Any) -> None:
        for optimizer in self._switched(trainer):
            optimizer.train()
        self._is_training = True

    def _evaluate(self, trainer: Any) -> None:
        for optimizer in self._switched(trainer):
            optimizer.eval()
        self._is_training = False

    def _switched(self, trainer: Any) -> list[Any]:
        return [
            one for number, one in enumerate(trainer.optimizers) if self._numbers is None or number in self._numbers
        ]

    def _end(self, trainer: Any) -> None:
        if self._replaced is not None:
            self._evaluate(trainer)
            self._replaced.restore()
            self._replaced = None

    def _put_usable_weights(self, trainer: Any, checkpoint: dict[str, Any]) -> None:
        """Put the weights to use into a checkpoint, and leave the training unchanged."""
        switched = self._switched(trainer)
        parameters = [one for optimizer in switched for group in optimizer.param_groups for one in group["params"]]
        kept = [parameter.detach().clone() for parameter in parameters]
        for optimizer in switched:
            optimizer.eval()
        weights = trainer.strategy.lightning_module_state_dict()
        checkpoint["state_dict"] = {name: value.clone() for name, value in weights.items()}
        if "optimizer_states" in checkpoint:
            checkpoint["optimizer_states"] = [trainer.strategy.optimizer_state(one) for one in trainer.optimizers]
        for optimizer in switched:
            optimizer.train()
        # exact to the last digit
        for parameter, before in zip(parameters, kept, strict=True):
            parameter.data.copy_(before)


class GraphKeeper(AnyCallback):
    """Keeps the graph of the backward pass for an optimizer that differentiates the gradients (Sophia).

    Args:
        name: The optimizer's name, for messages.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._open = ExitStack()
        self._replaced: ReplacedHook | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse settings under which its curvature would be wrong.

        Raises:
            ModelError: The loss is scaled, or the gradients are averaged over devices.
        """
        if stage == "fit" and trainer.precision == "16-mixed":
            raise ModelError(f"{self._name} cannot train in 16-mixed: the loss scale would enter its Hessian.")
        if stage == "fit" and trainer.world_size > 1:
            raise ModelError(
                f"{self._name} trains on one device: its Hessian is not averaged over {trainer.world_size}."
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Bind `backward` on the module."""
        optimizer = trainer.optimizers[0]

        def backward(module: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
            with warnings.catch_warnings():
                # torch warns of a reference cycle, which the step breaks
                warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
                loss.backward(*args, create_graph=_needs_graph(optimizer), **kwargs)

        self._replaced = ReplacedHook(pl_module, "backward", MethodType(backward, pl_module))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Restrict attention to the kernel that has a second derivative."""
        if _needs_graph(trainer.optimizers[0]):
            self._open.enter_context(sdpa_kernel(SDPBackend.MATH))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Allow attention any kernel again."""
        self._open.close()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Restore the module's own `backward`."""
        self._undo()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module's own `backward`."""
        self._undo()

    def _undo(self) -> None:
        self._open.close()
        if self._replaced is not None:
            self._replaced.restore()
            self._replaced = None


def _needs_graph(optimizer: Any) -> bool:
    return bool(getattr(optimizer, "needs_graph_now", True))


def _is_fitting(trainer: Any) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking
