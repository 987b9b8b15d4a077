"""All uses of Lightning's internals.

Every function says which public API is missing. Tested with Lightning 2.6.6 and with 2.5.0, the lowest version that
`pyproject.toml` allows; `.ci/run` tests both, with `.ci/lowest_versions.py`. No other file of opttune uses the
Trainer's loops or a private attribute of Lightning: `tests/project/test_lightning_internals.py` checks it.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def limit_steps(trainer: Any, steps: int) -> int:
    """End the fit after a number of optimizer steps, and return the previous limit.

    `Trainer.max_steps` is read-only; `Trainer.should_stop` would hide whether a callback of the user stops the fit.
    """
    loop = trainer.fit_loop.epoch_loop
    before: int = loop.max_steps
    loop.max_steps = steps
    return before


def without_minimums(trainer: Any) -> tuple[tuple[Any, str, object], ...]:
    """Return the owner, name and value of each setting with which `should_stop` ends the fit at once.

    `Trainer.min_epochs` and `Trainer.min_steps` are read-only.
    """
    return (trainer.fit_loop, "min_epochs", 0), (trainer.fit_loop.epoch_loop, "min_steps", None)


def is_mid_epoch(trainer: Any) -> bool:
    """Return whether batches of this epoch are left, in `on_train_batch_end`.

    `Trainer.is_last_batch` ignores `limit_train_batches` for a stream; no count of batches is public.
    """
    ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return not trainer.is_last_batch and ready < trainer.num_training_batches


def begin_epoch(trainer: Any) -> None:
    """Make a resumed fit start with a new epoch.

    With `max_steps` Lightning treats every checkpoint as one within an epoch, and would run an empty epoch first.
    """
    trainer.fit_loop.on_iteration_done()
    trainer.fit_loop.epoch_loop.restarting = False
    trainer.fit_loop.epoch_loop.on_iteration_done()


def end_resumption(trainer: Any, checkpoint: Mapping[str, Any]) -> None:
    """End the resumption of a fit at its first batch.

    Otherwise Lightning treats the fit as resumed until the epoch's end, and then steps no plateau schedule.
    """
    trainer.fit_loop.on_iteration_done()
    trainer.fit_loop.epoch_loop.on_load_checkpoint(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"])


def count_epoch_as_unfinished(checkpoint: Mapping[str, Any]) -> None:
    """Correct a checkpoint that is saved in `on_train_epoch_end` while batches of the epoch are left.

    Lightning counts the epoch as processed before it calls the hook.
    """
    for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        counts["processed"] -= 1


def is_sharded(trainer: Any) -> bool:
    """Return whether each rank has only a part of the weights.

    A strategy does not say so.
    """
    return any(word in type(trainer.strategy).__name__ for word in ("FSDP", "DeepSpeed", "ModelParallel"))


def batch_norm_epochs(trainer: Any) -> int:
    """Return the number of epochs that StochasticWeightAveraging has added at the end without training.

    It includes them in `Trainer.max_epochs`; the original number is not public.
    """
    before = (getattr(callback, "_max_epochs", None) for callback in trainer.callbacks if _averages(callback))
    return next((trainer.max_epochs - epochs for epochs in before if epochs is not None), 0)


def _averages(callback: Any) -> bool:
    return any(cls.__name__ == "StochasticWeightAveraging" for cls in type(callback).__mro__)


def validate_within_fit(trainer: Any) -> None:
    """Run a validation in `on_train_epoch_end` or `on_train_end`.

    `Trainer.validate` would end the fit; Lightning's own validations run only where the settings schedule them.
    """
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def deliver_no_metrics(trainer: Any, module: Any) -> None:
    """Keep metrics and hyperparameters from the loggers, as in a Trainer without one.

    Lightning would wait for the device to convert metrics. It would also refuse metrics of several numbers, and
    hyperparameters that module and data set differently. No setting turns that off.
    """
    trainer._logger_connector.log_metrics = _nothing
    module._log_hyperparams = False


def _nothing(*args: Any, **kwargs: Any) -> None:
    # not a lambda: a spawned process unpickles the Trainer
    return None


def begin_at_step_zero(trainer: Any) -> None:
    """Keep a fit without a checkpoint from loading one that Lightning finds itself.

    Lightning would load the checkpoint of another SLURM job in `default_root_dir`, or of a fit that an exception ended
    (`OnExceptionCheckpoint`); `ckpt_path=None` does not turn that off.
    """
    trainer._checkpoint_connector._select_ckpt_path = _nothing


def reload_epochs(trainer: Any) -> list[Any]:
    """Return the epochs at which the loaders were last created.

    `reload_dataloaders_every_n_epochs` counts from them, and Lightning's checkpoints do not contain them.
    """
    return [getattr(loop, name) for loop, name in _reload_counters(trainer)]


def set_reload_epochs(trainer: Any, epochs: Sequence[Any]) -> None:
    """Restore the result of `reload_epochs`."""
    for (loop, name), epoch in zip(_reload_counters(trainer), epochs, strict=True):
        setattr(loop, name, epoch)


def set_up_training_data(trainer: Any) -> None:
    """Make the training loaders before the fit starts; until then `Trainer.train_dataloader` has none."""
    trainer.fit_loop.setup_data()


def prepare_batch(trainer: Any, batch: Any) -> Any:
    """Return a prepared batch for the module, on its device, before the fit starts.

    The hooks that prepare a batch are public, but not which of the module's and the data module's hooks apply.
    """
    module = trainer.lightning_module
    moved = module._apply_batch_transfer_handler(module._on_before_batch_transfer(batch), device=module.device)
    return trainer.precision_plugin.convert_input(moved)


def _reload_counters(trainer: Any) -> list[tuple[Any, str]]:
    loop = trainer.fit_loop
    counters = [(loop, "_last_train_dl_reload_epoch"), (loop.epoch_loop.val_loop, "_last_val_dl_reload_epoch")]
    return [(owner, name) for owner, name in counters if hasattr(owner, name)]
