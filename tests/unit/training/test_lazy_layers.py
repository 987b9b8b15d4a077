"""Modules whose layers torch makes at the first batch."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from opttune import Recipe, RecipeCallback
from opttune.recipe import Part
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.inspection import inspect_model
from opttune.training.workload import Workload
from tests.support import models as m

ADAMW = Recipe(Part("adamw", {"lr": 0.01}))
MUON = Recipe(Part("muon", {"lr": 0.01}))
SETTINGS = {"max_steps": 12, "accelerator": "cpu"}


class Lazy(m.Net):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.1), nn.Tanh(), nn.LazyLinear(8), nn.LazyLinear(2))
        self.batches = 0
        self.start = None

    def training_step(self, batch, batch_idx):
        self.batches += 1
        return super().training_step(batch, batch_idx)

    def on_train_start(self):
        self.start = {name: weight.detach().clone() for name, weight in self.named_parameters()}
        assert self.batches == self.trainer.global_step


class LateLazy(Lazy):
    """Makes its layers in `configure_model`, and takes the batch alone."""

    def configure_model(self):
        self.net = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(2))

    def training_step(self, batch):
        return self.loss(batch)


class LazySinceSetup(Lazy):
    """Makes its layers in `setup`."""

    def __init__(self):
        super().__init__()
        self.net = None

    def setup(self, stage):
        self.net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(2))


class DoubledBatch(Lazy):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        return torch.cat([x, x], 1), y


def seeded_loaders():
    generator = torch.Generator().manual_seed(5)
    return DataLoader(m.dataset(), batch_size=4, shuffle=True, generator=generator), m.val_loader()


def weights(model, recipe, data=m.loaders, **how):
    seen = []

    class Watching(model):
        def on_train_start(self):
            super().on_train_start()
            seen.append((self.start, self.net[0].in_features))

    attempt = Attempt(recipe, "val_loss", 3, SETTINGS, **how)
    outcome = run_attempt(attempt, Workload(Watching, data), NullListener())
    assert outcome.message == "" or outcome.reason.name == "PAUSED", outcome
    return *seen[0], outcome.value


@pytest.mark.filterwarnings("ignore:You have overridden .on_after_batch_transfer")
@pytest.mark.parametrize("model", [Lazy, LateLazy, LazySinceSetup, DoubledBatch])
@pytest.mark.parametrize("data", [m.loaders, m.Data, seeded_loaders])
def test_all_trainings_begin_with_the_same_weights(model, data):
    first, width, value = weights(model, ADAMW, data)
    assert width == (8 if model is DoubledBatch else 4)
    for recipe in (MUON, None):
        other, _, _ = weights(model, recipe, data)
        assert all(torch.equal(first[name], other[name]) for name in first)
    assert weights(model, ADAMW, data)[2] == value


def test_the_order_of_the_data_does_not_change():
    def order(model):
        seen = []

        class Watching(model):
            def training_step(self, batch, batch_idx):
                if self.trainer.training and not torch.is_inference_mode_enabled() and torch.is_grad_enabled():
                    seen.append(batch[0].clone())
                return super().training_step(batch, batch_idx)

        run_attempt(Attempt(ADAMW, "val_loss", 3, SETTINGS), Workload(Watching, seeded_loaders), NullListener())
        return seen

    made, lazy = order(m.Net), order(Lazy)
    assert len(made) == len(lazy) == 12
    # the first epoch's seed is drawn from the loader's own generator
    assert all(torch.equal(a, b) for a, b in zip(made, lazy, strict=True))


def test_lazy_layers_go_through_a_pause(tmp_path):
    _, _, whole = weights(Lazy, ADAMW)
    weights(Lazy, ADAMW, checkpoint=tmp_path / "at.ckpt", until_step=5)
    assert weights(Lazy, ADAMW, resume_from=tmp_path / "at.ckpt")[2] == whole


def test_the_space_is_chosen_for_what_they_become():
    found = inspect_model(Attempt(ADAMW, "val_loss", 3, SETTINGS), Workload(Lazy, m.loaders), steps=0)
    assert (found.parameters, found.facts.has_hidden_matrices) == (130, True)


def test_a_recipe_in_a_trainer_of_ones_own_makes_them():
    model = Lazy()
    m.quiet_trainer(RecipeCallback(MUON), max_steps=4).fit(model, *m.loaders())
    assert type(model.net[0]) is nn.Linear


@pytest.mark.parametrize("model", [Lazy, LateLazy, LazySinceSetup])
def test_a_fit_leaves_the_modules_own_hooks(model):
    model = model()
    m.quiet_trainer(RecipeCallback(MUON), max_steps=1).fit(model, *m.loaders())
    assert not {"configure_model", "setup"} & vars(model).keys()


@pytest.mark.skipif(not hasattr(pl.callbacks, "WeightAveraging"), reason="since Lightning 2.6")
def test_nothing_is_bound_in_a_module_without_such_layers():
    model = m.Net()
    # this callback warns of a module with the hook, and a warning is an error here
    m.quiet_trainer(RecipeCallback(MUON), pl.callbacks.WeightAveraging(), max_steps=1).fit(model, *m.loaders())
