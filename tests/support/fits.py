"""One fit with a recipe, or under a guard, and what was seen of it."""

from opttune import GuardCallback, Recipe
from opttune.recipe import Part
from opttune.training.attach import RecipeAttacher
from tests.support import models as m

LR = 0.01
STOPPED = "ignore:opttune stopped the training:UserWarning"


def recipe_with(schedule="constant", **fields):
    return Recipe(Part("adamw", {"lr": LR}), schedule if isinstance(schedule, Part) else Part(schedule), **fields)


def fit(recipe, model=None, data=None, ckpt_path=None, callbacks=(), **settings):
    """Train with a recipe; return the attacher, what was watched and the Trainer."""
    attacher, watch = RecipeAttacher(recipe), m.Watch()
    trainer = m.quiet_trainer(attacher, watch, *callbacks, **{"max_steps": 20, **settings})
    trainer.fit(m.Net() if model is None else model, *(data or m.loaders()), ckpt_path=ckpt_path)
    return attacher, watch, trainer


def guarded_fit(model, *callbacks, guard=None, listener=None, data=None, ckpt_path=None, **settings):
    """Train under a guard; return its callback, what was watched and the Trainer."""
    callback, watch = GuardCallback(guard, listener=listener), m.Watch()
    settings = {"max_steps": 400, "check_val_every_n_epoch": 1, **settings}
    trainer = m.quiet_trainer(callback, watch, *callbacks, **settings)
    trainer.fit(model, *(data or m.loaders()), ckpt_path=ckpt_path)
    return callback, watch, trainer
