"""Pause a training at an optimizer step, and resume it as if it had never stopped.

The state is saved before the validation at the rung, and before the end of an unfinished epoch, because an
uninterrupted training has neither. Lightning's checkpoint contains the optimizer, schedules, counters and the state of
callbacks. This module adds all weights, even those that the module's own hooks leave out, the Python state, the random
states, the position in the data and the history of the guard. If a fit resumes within an epoch, Lightning does not call
the hooks of the epoch's start; here they are called, before the Python state is restored. Means that a module logs over
a training epoch are not saved: after a pause within an epoch they cover the rest of it.
"""

import inspect
import pickle
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from opttune.errors import InputError
from opttune.guard.callback import GuardCallback
from opttune.trainer.checkpoint_file import saved_locally
from opttune.trainer.hooks import ReplacedHook
from opttune.trainer.internals import (
    begin_epoch,
    count_epoch_as_unfinished,
    end_resumption,
    is_mid_epoch,
    is_sharded,
    limit_steps,
    reload_epochs,
    set_reload_epochs,
    validate_within_fit,
)
from opttune.trainer.namespaces import AnyCallback
from opttune.trainer.ranks import of_all_ranks
from opttune.training.data_order import DataOrder
from opttune.training.length import count_steps
from opttune.training.modes import EvalModeSwitch
from opttune.training.python_state import plain_attributes, read_python_state, restore_python_state
from opttune.training.random_state import read_random_state, set_random_state
from opttune.training.stop import NEVER, Stop

_KEY = "opttune.pause"


class PauseAndResume(AnyCallback):
    """Pauses a training, and resumes a paused one. It must come before all callbacks that act on a training.

    Args:
        until_step: Pause after this optimizer step; None, or at least the full length, pauses nowhere.
        path: Path of the saved state; None does not save.
        is_resumed: Whether the fit resumes a paused one from `ckpt_path`.
        guard: The guard, whose history is saved and restored.
        order: Follows the train loaders.
        stop: Checked after each step.

    Attributes:
        paused: Whether the training was paused at the step.
        is_stopped: Whether `stop` ended it; its state is then that of a pause, without the validation.
    """

    def __init__(
        self,
        until_step: int | None,
        path: Path | None,
        is_resumed: bool,
        guard: GuardCallback,
        order: DataOrder,
        stop: Stop = NEVER,
    ) -> None:
        super().__init__()
        self.paused = self.is_stopped = False
        self._until_step, self._path, self._is_resumed = until_step, path, is_resumed
        self._guard, self._order, self._stop = guard, order, stop
        self._last_step = 0
        self._total_steps = 0
        self._is_ending = False
        self._is_mid_epoch = False
        self._is_saving = False
        self._is_strict = True
        self._validated_at = -1
        self._max_steps = -1
        self._resumed: dict[str, Any] | None = None
        self._counters: dict[str, Any] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Prepare a resumed fit to load its checkpoint."""
        if not self._is_resumed:
            return
        if trainer.precision == "64-true":
            # Lightning does so only after it has loaded the checkpoint
            pl_module.double()
        if not is_sharded(trainer):
            # the module may save only a part of its weights; all are restored below
            self._is_strict, pl_module.strict_loading = pl_module.strict_loading, False

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Read the additions of `on_save_checkpoint`.

        Raises:
            InputError: The checkpoint does not belong to a paused training, or has another number of devices.
        """
        if not self._is_resumed:
            return
        if _KEY not in checkpoint:
            raise InputError(
                "a training is resumed from the checkpoint of a paused one, got a checkpoint of another kind."
            )
        # checkpoints from before December 2026 have less
        self._resumed = {"weights": {}, "trainable": {}, "python": [], **checkpoint[_KEY]}
        self._counters = {"loops": checkpoint["loops"]}
        if len(self._resumed["order"]) != trainer.world_size:
            raise InputError(
                f"a training that was paused on {len(self._resumed['order'])} devices needs as many to resume, "
                f"got {trainer.world_size}."
            )
        self._order.resume(self._resumed["order"][trainer.global_rank])
        if not is_sharded(trainer):
            pl_module.strict_loading = self._is_strict
        # loaders that are made from here on see the state as well
        self._restore_python_state(trainer, is_set_up=False)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the step of the pause, and prepare to resume.

        Raises:
            InputError: The training has already done that step.
        """
        self._last_step, self._total_steps = trainer.global_step, count_steps(trainer)
        if self._until_step is not None and self._until_step >= self._total_steps:
            self._until_step = None
        if self._until_step is not None and self._until_step <= trainer.global_step:
            raise InputError(
                f"until_step must be greater than the steps done, got {self._until_step} after {trainer.global_step}."
            )
        if self._resumed is None:
            return
        if not self._resumed["is_mid_epoch"]:
            begin_epoch(trainer)
        own = pl_module.on_train_start

        # the last hook before the training starts: every other one may draw random numbers
        @wraps(own)
        def on_train_start() -> None:
            replaced.restore()
            own()
            self._restore_state(trainer, pl_module)

        replaced = ReplacedHook(pl_module, "on_train_start", on_train_start)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """End the resumption with the first batch."""
        if self._resumed is None:
            return
        self._resumed = None
        self._order.settle()
        end_resumption(trainer, self._counters)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Make the step the last one; `should_stop` must still show whether the user's callback stops the fit."""
        has_stepped, self._last_step = trainer.global_step > self._last_step, trainer.global_step
        if self._is_ending or not has_stepped or trainer.global_step >= self._total_steps:
            return
        if self._until_step is None or trainer.global_step < self._until_step:
            # with several ranks every one would have to know
            if not self._stop.stop_requested or trainer.world_size > 1:
                return
            self.is_stopped, self._until_step = True, trainer.global_step
        self._is_ending = True
        self._is_mid_epoch = is_mid_epoch(trainer)
        self._max_steps = limit_steps(trainer, self._until_step)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the step."""
        self._validated_at = trainer.global_step

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save a pause within an epoch, before the epoch ends."""
        if self._is_ending and self._is_mid_epoch:
            self._pause(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Save a pause between two epochs."""
        if self._is_ending and not self._is_mid_epoch:
            self._pause(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the state that Lightning does not save."""
        if not self._is_saving:
            return
        if self._is_mid_epoch:
            count_epoch_as_unfinished(checkpoint)
        checkpoint[_KEY] = {
            "is_mid_epoch": self._is_mid_epoch,
            # they share their memory with those of Lightning, and are written once
            "weights": {} if is_sharded(trainer) else _weights(pl_module),
            "trainable": {name: one.requires_grad for name, one in pl_module.named_parameters()},
            "python": of_all_ranks(trainer, read_python_state(trainer)),
            # of every rank, in their order
            "random": of_all_ranks(trainer, read_random_state()),
            "order": of_all_ranks(trainer, self._order.state(self._is_mid_epoch)),
            "guard": self._guard.progress(),
            "reloads": reload_epochs(trainer),
        }

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the Trainer's settings."""
        self._restore(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the Trainer's settings."""
        self._restore(trainer)

    def _restore_python_state(self, trainer: Any, is_set_up: bool) -> None:
        if self._resumed is not None and (stored := self._resumed["python"]):
            restore_python_state(trainer, stored[trainer.global_rank], is_set_up)

    def _restore_state(self, trainer: Any, pl_module: Any) -> None:
        if self._resumed is None:
            return
        self._restore_module(trainer, pl_module, self._resumed)
        if self._resumed["is_mid_epoch"]:
            _enter_epoch_again(trainer, pl_module)
            self._restore_module(trainer, pl_module, self._resumed)
        set_reload_epochs(trainer, self._resumed["reloads"])
        self._guard.resume_from(self._resumed["guard"])
        set_random_state(self._resumed["random"][trainer.global_rank])
        self._order.set_generators()

    def _restore_module(self, trainer: Any, pl_module: Any, resumed: dict[str, Any]) -> None:
        _restore_weights(pl_module, resumed["weights"])
        for name, parameter in pl_module.named_parameters():
            parameter.requires_grad_(resumed["trainable"].get(name, parameter.requires_grad))
        self._restore_python_state(trainer, is_set_up=True)

    def _pause(self, trainer: Any, pl_module: Any) -> None:
        # on an accelerator the last losses have not been read yet
        self._guard.on_train_end(trainer, pl_module)
        if self._guard.decision is not None or _is_stopped(trainer):
            return
        self.paused = True
        if self._path is not None:
            switches = [callback for callback in trainer.callbacks if isinstance(callback, EvalModeSwitch)]
            self._save(trainer, self._path, switches)
        # the user's callbacks may read its metrics in their hook at the end of the epoch
        if not self.is_stopped and self._validated_at < trainer.global_step and trainer.enable_validation:
            validate_within_fit(trainer)

    def _save(self, trainer: Any, path: Path, switches: list[EvalModeSwitch]) -> None:
        self._is_saving = True
        for switch in switches:
            switch.saves_training_point = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._stop.held(), saved_locally(trainer):
                trainer.save_checkpoint(path)
        finally:
            self._is_saving = False
            for switch in switches:
                switch.saves_training_point = False

    def _restore(self, trainer: Any) -> None:
        if self._is_ending:
            self._is_ending = False
            limit_steps(trainer, self._max_steps)


def resume_arguments(trainer: Any, path: Path | None) -> dict[str, Any]:
    """Return the keyword arguments with which `trainer.fit` resumes a paused training.

    Loading is restricted to tensors and plain values if the checkpoint holds nothing else. Other objects, such as
    hyperparameters of the user's classes, are unpickled: opttune wrote the file itself.

    Args:
        trainer: The Trainer.
        path: The checkpoint of the paused training; None starts at step 0.

    Raises:
        InputError: There is no such file.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise InputError(f"the checkpoint to resume from is missing: {path}.")
    # before 2.6 Lightning had no such argument
    if "weights_only" not in inspect.signature(trainer.fit).parameters:
        return {"ckpt_path": path}
    return {"ckpt_path": path, "weights_only": _is_plain(path)}


def _enter_epoch_again(trainer: Any, module: Any) -> None:
    """Call the hooks of an epoch's start; the groups that they add and the rates that they set already exist."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    options = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    # the attributes of Lightning's own callbacks are not part of the Python state
    numbers = [(vars(callback), plain_attributes(callback)) for callback in trainer.callbacks]
    wrapped = module.optimizers()
    owners = [*trainer.optimizers, *(wrapped if isinstance(wrapped, list) else [wrapped])]
    replaced = [ReplacedHook(one, "add_param_group", _without_known(one)) for one in owners]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The provided params to be frozen already exist")
            for callback in trainer.callbacks:
                if not isinstance(callback, AnyCallback):
                    callback.on_train_epoch_start(trainer, module)
            module.on_train_epoch_start()
    finally:
        for one in replaced:
            one.restore()
    for changed, before in (*zip(groups, options, strict=True), *numbers):
        changed.update(before)


def _without_known(optimizer: Any) -> Callable[[dict[str, Any]], None]:
    """Return an `add_param_group` that leaves out parameters already in the optimizer."""
    own = optimizer.add_param_group

    def add_param_group(group: dict[str, Any]) -> None:
        known = {id(parameter) for each in optimizer.param_groups for parameter in each["params"]}
        given = [group["params"]] if isinstance(group["params"], torch.Tensor) else list(group["params"])
        left = [one for one in given if id(one[1] if isinstance(one, tuple) else one) not in known]
        if left:
            own({**group, "params": left})

    return add_param_group


def _weights(module: Any) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers, including those that a `state_dict` leaves out."""
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return {name: tensor.detach() for name, tensor in named}


def _restore_weights(module: Any, stored: dict[str, torch.Tensor]) -> None:
    present = _weights(module)
    for name, tensor in stored.items():
        if name not in present or present[name].shape != tensor.shape:
            raise InputError(f"a paused training cannot be resumed: {name} is made during the training.")
        present[name].copy_(tensor)


def _is_plain(path: Path) -> bool:
    try:
        # with `meta` no tensor is read
        torch.load(path, map_location="meta", mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        return False
    return True


def _is_stopped(trainer: Any) -> bool:
    """Return whether a user's callback has stopped the training, after its minimum length."""
    epochs, steps = trainer.min_epochs or 0, trainer.min_steps or 0
    return bool(trainer.should_stop) and trainer.current_epoch >= epochs and trainer.global_step >= steps
