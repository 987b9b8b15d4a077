"""One fit with a recipe, and what was seen of it."""

from opttune import Recipe
from opttune.recipe import Part
from opttune.training.attach import RecipeAttacher
from tests.support import modules as m

LR = 0.01


def recipe_with(schedule="constant", **fields):
    return Recipe(Part("adamw", {"lr": LR}), schedule if isinstance(schedule, Part) else Part(schedule), **fields)


def fit(recipe, model=None, data=None, ckpt_path=None, callbacks=(), **settings):
    """Train with a recipe; return the attacher, what was watched and the Trainer."""
    attacher, watch = RecipeAttacher(recipe), m.Watch()
    trainer = m.quiet_trainer(attacher, watch, *callbacks, **{"max_steps": 20, **settings})
    trainer.fit(m.Net() if model is None else model, *(data or m.loaders()), ckpt_path=ckpt_path)
    return attacher, watch, trainer
