"""Modules and Trainers that cannot take a recipe; each is refused with a sentence."""

from typing import Any

from opttune.build.own_knobs import knobs_of
from opttune.catalog.lookup import find_optimizer
from opttune.errors import ModelError, UnsuitableOptimizerError
from opttune.recipe import OWN, Recipe
from opttune.training.own_optimizer import OwnConfiguration


def refuse_untunable(trainer: Any, module: Any) -> None:
    """Refuse a module whose optimizer cannot be replaced.

    Raises:
        ModelError: The strategy owns the optimizer.
    """
    if "DeepSpeed" in type(trainer.strategy).__name__:
        raise ModelError(
            f"{type(module).__name__} trains under DeepSpeed, which owns the optimizer. Use the strategy auto, ddp or "
            "fsdp instead."
        )


def refuse_unless_own_fits(recipe: Recipe, module: Any, own: OwnConfiguration) -> None:
    """Refuse a recipe that the module's own optimizers do not allow.

    Raises:
        ModelError: The recipe keeps them but there are none, or the module has several under automatic optimization, or
            one of several needs more from the training than steps.
    """
    name, count = type(module).__name__, len(own.optimizers)
    if count == 0 and any(find_optimizer(part.name).is_own for part in recipe.optimizer.split()):
        raise ModelError(f"the recipe keeps the module's own optimizer, and {name} has {own.problem}.")
    if count == 0 and not module.automatic_optimization:
        raise ModelError(
            f"{name} uses manual optimization, so opttune needs its configure_optimizers to know which optimizer steps "
            f"which parameters, and it has {own.problem}."
        )
    part = recipe.optimizer
    if count and part.name == OWN:
        known = {knob for one in own.optimizers for knob in knobs_of(one.optimizer)}
        for knob in [name for name, value in part.items() if value != 1 and name not in known]:
            raise ModelError(
                f"the recipe moves {knob} of the module's own optimizer, and {own.words} has none. Leave {knob} out."
            )
    if count > 1 and module.automatic_optimization:
        raise ModelError(
            f"{name} trains with {count} optimizers ({own.words}) under automatic optimization, which Lightning does "
            "not allow. Set self.automatic_optimization = False and step them in training_step."
        )
    if count > 1:
        for part in recipe.optimizer.split():
            info = find_optimizer(part.name)
            if info.needs_create_graph:
                raise UnsuitableOptimizerError(
                    f"optimizer {info.name!r} differentiates the gradients of one loss, and {name} has {count} "
                    f"optimizers ({own.words}). Use another one."
                )
