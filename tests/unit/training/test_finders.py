"""Finders are left out of every fit with a recipe, and are back afterwards."""

import optuna
import pytest
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder

import opttune
from opttune.training.attempt import Attempt
from opttune.training.inspection import inspect_model
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support.fits import recipe_with


class MileStones(LearningRateFinder):
    """One of the user's own."""

    def on_fit_start(self, *_):
        raise AssertionError("it runs")


class Brings(m.Net):
    def configure_callbacks(self):
        return [MileStones()]


class Sized(m.Data):
    batch_size = 4


def trial_callback():
    return opttune.TrialCallback(optuna.create_study().ask(), "adamw", tracking=False)


@pytest.mark.parametrize(
    "make", [lambda: opttune.RecipeCallback(recipe_with()), trial_callback], ids=["recipe", "trial"]
)
def test_in_a_trainer_of_the_users_own_a_warning_says_so(make):
    finders = [MileStones(), BatchSizeFinder()]
    trainer = m.quiet_trainer(finders[0], make(), finders[1], max_steps=4)
    with pytest.warns(UserWarning, match="MileStones and BatchSizeFinder are left out: a recipe sets the learning"):
        trainer.fit(m.Net(), Sized())
    assert trainer.global_step == 4
    # Lightning puts them first
    assert trainer.callbacks[:2] == finders


def test_after_an_exception_they_are_back():
    finder = MileStones()
    trainer = m.quiet_trainer(finder, opttune.RecipeCallback(recipe_with()), max_steps=4)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ValueError):
        trainer.fit(Failing(), *m.loaders())
    assert trainer.callbacks[0] is finder


class Failing(m.Net):
    def training_step(self, batch, batch_idx):
        raise ValueError


def test_a_finder_that_needs_a_data_module_is_left_out_before_it_says_so():
    trainer = {"max_steps": 4, "accelerator": "cpu", "callbacks": BatchSizeFinder()}
    (note,) = inspect_model(Attempt(recipe_with(), "val_loss", 0, trainer), Workload(m.Net, m.loaders), 1).notes
    assert note.startswith("BatchSizeFinder is left out")


@pytest.mark.parametrize(
    ("model", "callbacks"), [(m.Net, [MileStones()]), (Brings, [])], ids=["the Trainer's", "the module's"]
)
def test_an_inspection_names_them(model, callbacks):
    trainer = {"max_steps": 4, "accelerator": "cpu", "callbacks": callbacks}
    attempt = Attempt(recipe_with(), "val_loss", 0, trainer)
    assert inspect_model(attempt, Workload(model, m.loaders), 1).notes == (
        "MileStones is left out: a recipe sets the learning rate, at one batch size for all trainings.",
    )
