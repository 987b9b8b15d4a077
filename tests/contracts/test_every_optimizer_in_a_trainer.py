"""Every optimizer of the catalog trains, stops and resumes in the real Trainer, by RecipeCallback."""

from itertools import cycle

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from opttune.build.load import load_class
from opttune.catalog import find_optimizer
from opttune.catalog.optimizers import OPTIMIZERS
from opttune.errors import MissingExtraError
from opttune.training.recipe_callback import RecipeCallback
from tests.contracts.test_every_optimizer import STEPS, short_recipe
from tests.support import models as m
from tests.support.optimizer_tasks import TASKS
from tests.support.pauses import assert_equal, both

NAMES = tuple(info.name for info in OPTIMIZERS)


class Wrapped(pl.LightningModule):
    def __init__(self, task):
        super().__init__()
        self.model, self.inputs, self.labels = TASKS[task].make()
        self.losses = []

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.model(self.inputs), self.labels)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.cross_entropy(self.model(self.inputs), self.labels))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def row(name):
    info = find_optimizer(name)
    try:
        load_class(info)
    except MissingExtraError as err:
        pytest.skip(str(err))
    return info


def fit(module, name, steps, *callbacks, **how):
    trainer = m.quiet_trainer(RecipeCallback(short_recipe(row(name))), *callbacks, max_steps=steps)
    loaders = (DataLoader(TensorDataset(torch.zeros(count, 1))) for count in (STEPS, 1))
    trainer.fit(module, *loaders, **how)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_20_steps_lower_the_loss(name):
    # the other tasks: without a Trainer, in test_every_optimizer.py
    module = Wrapped("transformer")
    fit(module, name, STEPS)
    assert len(module.losses) == STEPS
    assert max(module.losses[-3:]) < module.losses[0]
    assert "configure_optimizers" not in vars(module)
    assert "backward" not in vars(module)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_training_equals_the_uninterrupted_one(name, tmp_path):
    whole, second = Wrapped("mlp"), Wrapped("mlp")

    class Saving(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            if trainer.global_step == 7:
                trainer.save_checkpoint(tmp_path / "seven.ckpt")

    fit(whole, name, STEPS, Saving())
    is_safe = not find_optimizer(name).weights_only_unsafe
    fit(second, name, STEPS, ckpt_path=tmp_path / "seven.ckpt", weights_only=is_safe)
    assert second.losses == pytest.approx(whole.losses[7:], rel=1e-4)


def still_loaders():
    return tuple(DataLoader(TensorDataset(torch.zeros(count, 1))) for count in (8, 1))


# both kinds of length, in turn
WITH_LENGTH = list(zip(NAMES, cycle([{"max_steps": STEPS}, {"max_epochs": 3}])))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "length"), WITH_LENGTH, ids=str)
def test_a_training_paused_at_two_rungs_is_the_uninterrupted_one_bit_for_bit(name, length, tmp_path):
    how = {"model": lambda: Wrapped("mlp"), "data": still_loaders, "recipe": short_recipe(row(name)), "trainer": length}
    whole, paused = both(tmp_path, (3, 8), **how)
    assert [outcome.reason for outcome in paused.outcomes] == ["paused", "paused", "completed"]
    assert_equal(whole, paused)
    # a pause carries the list to the next model
    assert paused.models[-1].losses == whole.models[0].losses
