"""A training under a guard, as the tests of its callback run it."""

from opttune import GuardCallback
from tests.support import modules as m

STOPPED = "ignore:opttune stopped the training:UserWarning"


def fit(model, *callbacks, guard=None, listener=None, data=None, ckpt_path=None, **settings):
    """Train under a guard; return its callback, what was watched and the Trainer."""
    callback, watch = GuardCallback(guard, listener=listener), m.Watch()
    settings = {"max_steps": 400, "check_val_every_n_epoch": 1, **settings}
    trainer = m.quiet_trainer(callback, watch, *callbacks, **settings)
    trainer.fit(model, *(data or m.loaders()), ckpt_path=ckpt_path)
    return callback, watch, trainer
