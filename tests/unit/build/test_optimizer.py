"""Loading the class that a row names, and building an optimizer of it."""

from typing import Any

import pytest
import torch
from torch import nn

from opttune.build.load import load_class, load_object
from opttune.build.optimizer import GroupRow, build_optimizer, groups_table
from opttune.catalog import lookup
from opttune.catalog.info import OptimizerInfo, OptionInfo
from opttune.errors import MissingExtraError, OpttuneError
from opttune.recipe import Part, Recipe


def row(path: str, extra: str = "") -> OptimizerInfo:
    return OptimizerInfo("mine", path, "mine", (), "mine", extra=extra)


def test_objects_are_returned_as_they_are() -> None:
    assert load_object(len) is len
    assert load_object("collections.OrderedDict").__name__ == "OrderedDict"


def test_a_missing_package_of_an_extra_is_named() -> None:
    words = (
        r"optimizer 'mine' needs a package that is not installed \(No module named 'nowhere'\)\. Install it with: pip"
    )
    with pytest.raises(MissingExtraError, match=words) as caught:
        load_class(row("nowhere.Mine", extra="mine"))
    assert isinstance(caught.value, OpttuneError)
    assert isinstance(caught.value, ImportError)


def test_any_other_missing_package_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        load_class(row("nowhere.Mine"))


def test_a_row_may_name_a_class_that_knows_no_weight_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        lookup._OPTIMIZERS.rows,
        "rprop",
        OptimizerInfo("rprop", torch.optim.Rprop, "signs alone", (OptionInfo("lr", 1e-2),), "Riedmiller 1993"),
    )
    optimizer = build_optimizer(Recipe(Part("rprop")), nn.Linear(2, 2), 10)
    assert all("weight_decay" not in group for group in optimizer.param_groups)


def test_steps_take_a_closure() -> None:
    for name in ("lamb", "sophia"):
        layer = nn.Linear(2, 1)
        optimizer = build_optimizer(Recipe(Part(name)), layer, 10)

        def closure(layer: nn.Module = layer, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = layer(torch.ones(1, 2)).square().sum()
            gradients = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
            for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
                parameter.grad = gradient
            return loss

        before = layer.weight.detach().clone()
        assert optimizer.step(closure) > 0
        assert not torch.equal(layer.weight, before)


def test_the_table_of_groups_is_markdown():
    rows = [GroupRow("decay", 2, 1000, 1e-3, 0.01), GroupRow("not trained", 1, 5, 0.0, 0.0)]
    assert groups_table(rows).splitlines()[2:] == [
        "| decay | 2 | 1000 | 0.001 | 0.01 |",
        "| not trained | 1 | 5 | 0 | 0 |",
    ]
