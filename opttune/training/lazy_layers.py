"""Initialize layers that torch makes at their first batch (`nn.LazyLinear`) before the optimizer is built.

A copy of the module does one training step to find the parameters' sizes. The module itself only makes its layers.
Nothing else in it changes, and all trainings with one seed start with the same weights.
"""

from copy import deepcopy
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer

from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.namespaces import AnyCallback
from opttune.training.first_batch import run_training_step
from opttune.training.own_optimizer import is_overridden
from opttune.training.random_state import kept_random_state

_HOOK = "configure_model"


class LazyLayers(AnyCallback):
    """Makes a module's lazy layers in `configure_model`, before the Trainer asks for the optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self._replaced: list[ReplacedHook] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Bind `configure_model` if the module has lazy layers, or may make some in that hook or in `setup`."""
        if stage != "fit":
            return
        if _has_unmade(pl_module) or is_overridden(type(pl_module), _HOOK):
            self._bind(trainer, pl_module)
        elif is_overridden(type(pl_module), "setup"):
            # bound only if it is needed: a callback such as WeightAveraging warns of modules with `configure_model`
            own = pl_module.setup

            def setup(module: Any, stage: str) -> None:
                own(stage)
                if _has_unmade(module):
                    self._bind(trainer, module)

            self._replace(pl_module, "setup", setup)

    def _bind(self, trainer: Any, pl_module: Any) -> None:
        own = getattr(pl_module, _HOOK)

        def configure_model(module: Any) -> None:
            own()
            if _has_unmade(module):
                make_lazy_layers(trainer, module)

        self._replace(pl_module, _HOOK, configure_model)

    def _replace(self, pl_module: Any, hook: str, function: Any) -> None:
        self._replaced.append(ReplacedHook(pl_module, hook, MethodType(function, pl_module)))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Restore the module's own hook."""
        self._undo()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module's own hook."""
        self._undo()

    def _undo(self) -> None:
        while self._replaced:
            self._replaced.pop().restore()


def make_lazy_layers(trainer: Any, module: Any) -> None:
    """Make the lazy layers of a module from the first batch of its training data.

    Args:
        trainer: The Trainer, before its fit starts.
        module: The module.
    """
    with kept_random_state():
        inputs = _first_inputs(trainer, module)
    parts = dict(module.named_modules())
    # in the order in which the batch reaches them
    for name, (args, kwargs) in inputs.items():
        # as torch does before the first call
        parts[name]._infer_parameters(parts[name], args, kwargs)


def _first_inputs(trainer: Any, module: Any) -> dict[str, tuple[Any, Any]]:
    """Return the inputs of each lazy layer at the first step, in the order of the calls."""
    # torch cannot copy a buffer that is not made yet
    unmade = [buffer for buffer in module.buffers() if isinstance(buffer, UninitializedBuffer)]
    trial = deepcopy(module, {id(buffer): UninitializedBuffer() for buffer in unmade})
    inputs: dict[str, tuple[Any, Any]] = {}
    for name, part in trial.named_modules():
        if _is_unmade(part):
            part.register_forward_pre_hook(partial(_note, inputs, name), with_kwargs=True, prepend=True)
    with torch.no_grad():
        run_training_step(trainer, trial)
    return inputs


def _note(inputs: dict[str, tuple[Any, Any]], name: str, _: nn.Module, args: Any, kwargs: Any) -> None:
    inputs.setdefault(name, (args, kwargs))


def _has_unmade(module: nn.Module) -> bool:
    return any(_is_unmade(part) for part in module.modules())


def _is_unmade(part: nn.Module) -> bool:
    return isinstance(part, LazyModuleMixin) and part.has_uninitialized_params()
