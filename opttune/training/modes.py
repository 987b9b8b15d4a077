"""What some optimizers need of a training beside their steps: the quirks that are fields of their rows."""

import warnings
from contextlib import ExitStack
from types import MethodType
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel

from opttune.catalog.info import OptimizerInfo
from opttune.errors import ModelError
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.namespaces import AnyCallback


def quirk_callbacks(info: OptimizerInfo) -> tuple[AnyCallback, ...]:
    """Return the callbacks without which an optimizer does not train as its authors mean it.

    Example:
        >>> from opttune.catalog import find_optimizer
        >>> [type(callback).__name__ for callback in quirk_callbacks(find_optimizer("schedule_free_adamw"))]
        ['EvalModeSwitch']
    """
    callbacks: list[AnyCallback] = []
    if info.needs_eval_mode_switch:
        callbacks.append(EvalModeSwitch())
    if info.needs_create_graph:
        callbacks.append(GraphKeeper(info.name))
    return tuple(callbacks)


class EvalModeSwitch(AnyCallback):
    """Switches an optimizer that trains at one point and is evaluated at another (schedule-free).

    Validations, checkpoints and the end of the fit see the weights that are meant to be used.

    Attributes:
        saves_training_point: Whether checkpoints get the weights that it trains at instead; there and back again
            is not exact to the last digit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.saves_training_point = False
        self._is_training = False
        self._replaced: ReplacedHook | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Go to the point at which it trains; a checkpoint brought back the other."""
        self._train(trainer)
        own = pl_module.on_save_checkpoint

        # a hook of the module's: for a checkpoint of the weights alone no callback is asked
        def on_save_checkpoint(module: Any, checkpoint: dict[str, Any]) -> None:
            if self._is_training and not self.saves_training_point:
                self._put_usable_weights(trainer, checkpoint)
            own(checkpoint)

        self._replaced = ReplacedHook(pl_module, "on_save_checkpoint", MethodType(on_save_checkpoint, pl_module))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Validate the weights that are meant to be used."""
        if _is_fitting(trainer):
            self._evaluate(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Go back to the point at which it trains."""
        if _is_fitting(trainer):
            self._train(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the module with the weights that are meant to be used."""
        self._end(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module with the weights that are meant to be used."""
        self._end(trainer)

    def _train(self, trainer: Any) -> None:
        trainer.optimizers[0].train()
        self._is_training = True

    def _evaluate(self, trainer: Any) -> None:
        trainer.optimizers[0].eval()
        self._is_training = False

    def _end(self, trainer: Any) -> None:
        if self._replaced is not None:
            self._evaluate(trainer)
            self._replaced.restore()
            self._replaced = None

    def _put_usable_weights(self, trainer: Any, checkpoint: dict[str, Any]) -> None:
        """Put the weights that are meant to be used into a checkpoint, and leave the training as it is."""
        optimizer = trainer.optimizers[0]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        kept = [parameter.detach().clone() for parameter in parameters]
        optimizer.eval()
        weights = trainer.strategy.lightning_module_state_dict()
        checkpoint["state_dict"] = {name: value.clone() for name, value in weights.items()}
        if "optimizer_states" in checkpoint:
            checkpoint["optimizer_states"] = [trainer.strategy.optimizer_state(optimizer)]
        optimizer.train()
        # exact to the last digit
        for parameter, before in zip(parameters, kept, strict=True):
            parameter.data.copy_(before)


class GraphKeeper(AnyCallback):
    """Lets the backward pass keep its graph where an optimizer differentiates the gradients (Sophia).

    Args:
        name: The optimizer's name, for messages.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._open = ExitStack()
        self._replaced: ReplacedHook | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what gives it a wrong curvature.

        Raises:
            ModelError: A loss that is scaled, or gradients that are averaged over devices.
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
                # torch warns of a reference cycle, which the step dissolves
                warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
                loss.backward(*args, create_graph=_needs_graph(optimizer), **kwargs)

        self._replaced = ReplacedHook(pl_module, "backward", MethodType(backward, pl_module))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Let attention take the kernel that has a second derivative."""
        if _needs_graph(trainer.optimizers[0]):
            self._open.enter_context(sdpa_kernel(SDPBackend.MATH))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let attention take any kernel again."""
        self._open.close()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the module its own `backward` back."""
        self._undo()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Give the module its own `backward` back."""
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
