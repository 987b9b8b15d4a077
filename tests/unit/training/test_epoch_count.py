"""Modules that read `trainer.max_epochs`, in trainings whose length is given in steps."""

import lightning.pytorch as pl
import pytest
import torch
from torch.optim import lr_scheduler

from opttune import Recipe, RecipeCallback
from opttune.recipe import Part
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.workload import Workload
from tests.support import models as m

SETTINGS = {"max_steps": 20, "accelerator": "cpu"}
RECIPE = Recipe(Part("adamw", {"lr": 0.01}))


class OverEpochs(m.Net):
    asked = ()
    rates = ()

    def scheduler(self, optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)

    def configure_optimizers(self):
        type(self).asked = (*self.asked, self.trainer.max_epochs)
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [self.scheduler(optimizer)]

    def on_train_epoch_start(self):
        type(self).asked = (*self.asked, self.trainer.max_epochs)
        type(self).rates = (*self.rates, self.trainer.optimizers[0].param_groups[0]["lr"])


class Lambda(OverEpochs):
    def scheduler(self, optimizer):
        return lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / self.trainer.max_epochs)


class OneCycle(OverEpochs):
    def scheduler(self, optimizer):
        return lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=self.trainer.max_epochs, steps_per_epoch=1)


def train(model, recipe=None, data=m.loaders, until=(None,), folder=None, **settings):
    kind = type(model.__name__, (model,), {"asked": (), "rates": ()})
    before = None
    for number, step in enumerate(until):
        after = folder and folder / f"{len(until)}-{number}.ckpt"
        attempt = Attempt(
            recipe, "val_loss", 3, {**SETTINGS, **settings}, checkpoint=after, until_step=step, resume_from=before
        )
        outcome, before = run_attempt(attempt, Workload(kind, data), NullListener()), after
    assert outcome.steps == 20, outcome.message
    return set(kind.asked), kind.rates, outcome.value


@pytest.mark.parametrize("model", [OverEpochs, Lambda, OneCycle])
@pytest.mark.parametrize("recipe", [None, RECIPE])
def test_it_is_the_number_of_epochs_that_the_steps_take(model, recipe):
    asked, rates, _ = train(model, recipe)
    assert (asked, len(rates)) == ({3}, 3)  # of 8, 8 and 4 batches
    if model is Lambda and recipe is None:
        assert rates == pytest.approx((0.1, 0.1 * 2 / 3, 0.1 / 3))


def test_accumulated_batches_count_as_one_step():
    assert train(OverEpochs, accumulate_grad_batches=4)[0] == {10}
    assert train(OverEpochs, Recipe(Part("adamw"), accumulate_grad_batches=2))[0] == {5}


def test_it_is_the_same_over_a_pause(tmp_path):
    whole = train(OverEpochs, folder=tmp_path)
    parts = train(OverEpochs, folder=tmp_path, until=(8, 13, None))
    assert (parts[0], parts[2]) == (whole[0], whole[2])


def test_where_it_is_unknown_a_warning_says_what_to_give():
    class Plain(OverEpochs):
        def scheduler(self, optimizer):
            return lr_scheduler.ConstantLR(optimizer)

    with pytest.warns(UserWarning, match=r"Plain reads trainer\.max_epochs, .*--max-epochs"):
        asked, _, _ = train(Plain, data=lambda: (m.stream_loader(), m.val_loader()))
    assert asked == {-1}


def test_a_length_in_epochs_is_left_alone():
    assert train(OverEpochs, max_steps=20, max_epochs=7)[0] == {7}


def test_lightnings_own_callbacks_see_the_trainer_as_it_is():
    averaging = pl.callbacks.StochasticWeightAveraging(1e-3, swa_epoch_start=0.5)
    attempt = Attempt(RECIPE, "val_loss", 3, {**SETTINGS, "callbacks": [averaging]})
    message = run_attempt(attempt, Workload(OverEpochs, m.loaders), NullListener()).message
    assert "not supported when `max_epochs=-1`" in message


def test_afterwards_the_trainer_is_as_it_was():
    trainer = m.quiet_trainer(RecipeCallback(RECIPE), max_steps=4)
    trainer.fit(OverEpochs(), *m.loaders())
    assert (type(trainer), trainer.max_epochs) == (pl.Trainer, -1)
