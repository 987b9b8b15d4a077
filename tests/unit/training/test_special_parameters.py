"""Complex parameters and sparse gradients: who trains them is known before a search."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune
from opttune import Recipe
from opttune.build.optimizer import build_optimizer
from opttune.catalog.lookup import find_optimizer
from opttune.catalog.optimizers import OPTIMIZERS
from opttune.errors import ModelError, UnsuitableOptimizerError
from opttune.recipe import Part
from opttune.space.parse import load_space
from tests.support import models as m
from tests.support.fits import fit

SETTINGS = {"accelerator": "cpu"}


class Spectral(m.Net):
    def __init__(self):
        super().__init__()
        self.spectral = nn.Parameter(0.3 * torch.randn(3, 3, dtype=torch.cfloat))
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2))

    def loss(self, batch):
        x = torch.fft.irfft(torch.fft.rfft(batch[0]) @ self.spectral, n=4)
        return nn.functional.cross_entropy(self.net(x), batch[1])


class Table(m.Net):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 4, sparse=True)

    def loss(self, batch):
        return nn.functional.cross_entropy(self.net(self.table(batch[0]).mean(1)), batch[1])


class Functional(Table):
    """Whose gradients show no earlier than at a step."""

    def __init__(self):
        super().__init__()
        self.table = None
        self.rows = nn.Parameter(torch.randn(20, 4))

    def loss(self, batch):
        rows = nn.functional.embedding(batch[0], self.rows, sparse=True)
        return nn.functional.cross_entropy(self.net(rows.mean(1)), batch[1])


def items():
    random = torch.Generator().manual_seed(0)
    x = torch.randint(20, (32, 3), generator=random)
    data = TensorDataset(x, (x[:, 0] > 10).long())
    return DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=32)


def search(model, data, space, tmp_path, budget=2):
    return opttune.search(
        model, data, space=space, max_steps=16, budget=budget, trainer=SETTINGS, progress=False, baseline=budget > 1,
        out_dir=tmp_path / "out", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )  # fmt: skip


@pytest.mark.parametrize("name", [row.name for row in OPTIMIZERS])
@pytest.mark.parametrize(("model", "data", "field"), [(Spectral, m.loaders, "complex"), (Table, items, "sparse")])
def test_every_row_says_what_it_trains(name, model, data, field):
    info = find_optimizer(name)
    is_able = info.takes_complex if field == "complex" else info.takes_sparse
    net = model()
    special = net.spectral if field == "complex" else net.table.weight
    recipe = Recipe(Part(name, {"weight_decay": 0.1} if any(o.name == "weight_decay" for o in info.options) else {}))
    if not is_able:
        with pytest.raises(UnsuitableOptimizerError, match=rf"{field}.*optimizer '{name}'.*These do: .*sgd"):
            build_optimizer(recipe, net, 20)
        return
    before = special.detach().clone()
    optimizer = build_optimizer(recipe, net, 20)
    for batch in data()[0]:
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    moved = special.detach() - before
    assert torch.isfinite(moved).all()
    parts = torch.view_as_real(moved).abs().amax((0, 1)) if field == "complex" else moved.abs().max().reshape(1)
    assert parts.min() > 0.1 * parts.max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "left", "out"),
    [(Spectral, m.loaders, {"adamw", "sgd", "nadamw", "lion"}, "complex"), (Table, items, {"sgd"}, "sparse")],
)
def test_what_cannot_train_the_model_is_left_out_of_the_space_with_a_word(tmp_path, model, data, left, out):
    result = search(model, data, "auto", tmp_path, budget=3)
    assert set(result.trials.dropna(subset=["value"])["optimizer"]) <= {*left, "own"}
    assert not (result.trials["reason"] == "failed").any()


def test_a_decay_that_a_sparse_gradient_cannot_take_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ModelError, match="which take no weight decay: set weight_decay to 0"):
        search(Functional, items, "sgd", tmp_path)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_sparse_gradients_that_show_late_are_not_clipped(clip):
    recipe = Recipe(Part("momentum", {"lr": 0.05, "weight_decay": 0.0}), gradient_clip_norm=clip)
    _, watch, trainer = fit(recipe, Functional(), data=items())
    assert (len(watch.lrs), trainer.gradient_clip_val) == (20, None)


@pytest.mark.slow
def test_a_wide_space_keeps_what_fits(tmp_path):
    result = search(Table, items, "wide", tmp_path)
    assert set(result.trials["optimizer"]) == {"sgd"}
    assert result.best_recipe.gradient_clip_norm is None


@pytest.mark.slow
def test_sparse_gradients_are_searched_with_what_takes_them(tmp_path):
    result = search(Table, items, "sgd", tmp_path)
    assert result.best_recipe.optimizer.name in ("sgd", "momentum", "nesterov")


@pytest.mark.parametrize("model", [Table, Functional])
def test_a_space_without_one_is_refused_in_a_sentence(tmp_path, model):
    with pytest.raises(UnsuitableOptimizerError, match="sparse gradients, which optimizer 'adamw' does not train"):
        search(model, items, "adamw", tmp_path)


def test_sparse_gradients_get_neither_clipping_nor_decay():
    recipe = Recipe(Part("momentum", {"lr": 0.05, "weight_decay": 0.1}), gradient_clip_norm=1.0)
    attacher, watch, trainer = fit(recipe, Table(), data=items())
    assert len(watch.lrs) == 20
    assert attacher.notes == ["some gradients are sparse; the recipe's gradient_clip_norm=1.0 is left out"]
    assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.1, 0.0]


def test_the_named_spaces_hold_what_takes_complex_parameters():
    names = {branch.name for branch in load_space("wide").optimizers}
    assert any(find_optimizer(name).takes_complex for name in names)
