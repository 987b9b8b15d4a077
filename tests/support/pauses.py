"""The same training twice: in one go, and paused at rungs and resumed."""

import lightning.pytorch as pl
import numpy as np
import pytorch_lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from opttune import Recipe
from opttune.recipe import Part
from opttune.training.attempt import Attempt, run_attempt
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support.listeners import RecordingListener

RECIPE = Recipe(Part("adamw", {"lr": 0.03}), Part("cosine", {"warmup_fraction": 0.1}))


class Noisy(Dataset):
    """Adds noise to what it gives, with torch's and numpy's global generators.

    Not with Python's: libraries draw from it in threads of theirs, urllib3 for the waits between its retries.
    `test_random_state.py` sees to it.
    """

    def __init__(self, data=None):
        self.data = data or m.dataset(4 * m.BATCHES)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        x, y = self.data[index]
        return x + 0.1 * (torch.rand(1) + np.random.rand()), y


class _Dropping:
    """With everything that a pause could lose: dropout, batch statistics, hooks that draw random numbers."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))
        self.seen, self.noise = [], []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.seen.append((self.trainer.global_step, batch_idx, batch[0].sum().item(), loss.item()))
        return loss

    def on_train_start(self):
        torch.rand(3)

    def on_train_epoch_start(self):
        self.seen.append(("epoch", self.current_epoch, torch.rand(1).item()))

    def on_train_batch_end(self, *_):
        torch.rand(1)

    def validation_step(self, batch, batch_idx):
        torch.rand(1)
        super().validation_step(batch, batch_idx)


class Net(_Dropping, m.Net):
    pass


class OtherNet(_Dropping, m.OtherNet):
    pass


def loaders(**settings):
    return DataLoader(Noisy(), **{"batch_size": 4, "shuffle": True, **settings}), m.val_loader()


class Story:
    """What was seen of one training, over all of its attempts."""

    def __init__(self):
        self.listener, self.models, self.outcomes = RecordingListener(), [], []

    @property
    def seen(self):
        # a pause carries the list to the next model
        return getattr(self.models[-1], "seen", [])

    @property
    def end(self):
        return self.outcomes[-1]


def train(path, rungs=(), model=Net, data=loaders, recipe=RECIPE, trainer=None, **fields):
    """Train, pausing at rungs; return the story and the last checkpoint."""
    story = Story()

    def made():
        story.models.append(model())
        return story.models[-1]

    trainer = {"accelerator": "cpu", **({"max_steps": 20} if trainer is None else trainer)}
    for until in (*rungs, None):
        resume_from = path if path.exists() else None
        attempt = Attempt(
            recipe, "val_loss", 3, trainer, checkpoint=path, until_step=until, resume_from=resume_from, **fields
        )
        story.outcomes.append(run_attempt(attempt, Workload(made, data), story.listener))
        assert str(story.end.reason) != "failed", story.end.traceback
        if str(story.end.reason) != "paused":
            break
    story.saved = torch.load(path, weights_only=False) if path.exists() else None
    return story


def both(folder, rungs, **how):
    """Return the stories of the training in one go and of the paused one."""
    return train(folder / "whole.ckpt", **how), train(folder / "paused.ckpt", rungs, **how)


def assert_equal(whole, paused):
    """The paused training is the uninterrupted one, bit for bit."""
    assert paused.seen == whole.seen
    assert [record.step for record in paused.listener.records] == [record.step for record in whole.listener.records]
    assert paused.listener.records == whole.listener.records
    assert (paused.end.reason, paused.end.value, paused.end.steps, paused.end.message) == (
        whole.end.reason,
        whole.end.value,
        whole.end.steps,
        whole.end.message,
    )
    assert (paused.saved is None) == (whole.saved is None)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks") if whole.saved else ():
        assert_same(paused.saved[key], whole.saved[key], key)


def assert_same(one, other, where):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(map(str, one)) == list(map(str, other)), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{number}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif hasattr(one, "__dict__"):
        assert_same(vars(one), vars(other), where)
    else:
        assert one == other or repr(one) == repr(other), where


NAMESPACES = [(pl, Net), (pytorch_lightning, OtherNet)]


def run(path, model=Net, data=loaders, trainer=None, monitor="val_loss", **fields):
    """Train one attempt with its checkpoint there."""
    trainer = {"accelerator": "cpu", "max_steps": 20, **(trainer or {})}
    return run_attempt(
        Attempt(RECIPE, monitor, 3, trainer, checkpoint=path, **fields), Workload(model, data), RecordingListener()
    )
