"""The length of a training in optimizer steps."""

from typing import Any

from opttune.errors import ModelError
from opttune.trainer.internals import batch_norm_epochs

_MANUAL = (
    "{} uses manual optimization, where the module decides how many steps an epoch has: trainer.global_step counts the "
    "steps of all its optimizers. Give the length as max_steps (--max-steps N), and no epochs."
)


def varies_accumulation(trainer: Any) -> bool:
    """Return whether a GradientAccumulationScheduler changes the batches of a step from epoch to epoch."""
    return any(type(callback).__name__ == "GradientAccumulationScheduler" for callback in trainer.callbacks)


def has_known_length(trainer: Any) -> bool:
    """Return whether the optimizer steps of the full length are known; manual optimization needs max_steps."""
    return bool(trainer.lightning_module.automatic_optimization) or trainer.max_steps != -1


def count_steps(trainer: Any) -> int:
    """Return the optimizer steps of the full length.

    Raises:
        ModelError: The Trainer cannot know them.
    """
    if not has_known_length(trainer):
        raise ModelError(_MANUAL.format(type(trainer.lightning_module).__name__))
    if not trainer.lightning_module.automatic_optimization:
        return int(trainer.max_steps)
    advice = "Give max_steps."
    if varies_accumulation(trainer) and trainer.max_epochs != -1:
        raise ModelError(
            f"the Trainer miscounts its steps under GradientAccumulationScheduler. {advice[:-1]}, and no max_epochs."
        )
    total = trainer.estimated_stepping_batches
    if trainer.max_steps == -1 and (added := batch_norm_epochs(trainer)):
        total = total * (trainer.max_epochs - added) // trainer.max_epochs
    if total == float("inf"):
        raise ModelError(f"the training has no end: neither max_steps nor max_epochs is set. {advice}")
    if total == 0 or trainer.limit_train_batches == 0:
        raise ModelError("there is nothing to train: max_steps=0, or no batches.")
    if total < 0:
        raise ModelError(f"the training data has no length (an IterableDataset), so its steps are unknown. {advice}")
    return int(total)
