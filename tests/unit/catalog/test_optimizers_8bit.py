"""What is said where the extra is not installed."""

import sys

import pytest
import torch
from torch import nn

from opttune.build.load import load_class
from opttune.build.optimizer import build_optimizer
from opttune.catalog import find_optimizer
from opttune.errors import MissingExtraError
from opttune.recipe import Part, Recipe


@pytest.mark.parametrize("name", ["adamw_8bit", "lion_8bit"])
def test_the_extra_is_named_where_it_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [key for key in sys.modules if key.split(".")[0] == "bitsandbytes"] or ["bitsandbytes"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"optimizer '{name}' needs .* pip install 'opttune\[8bit\]'"):
        load_class(find_optimizer(name))


def test_large_tensors_have_8_bits_and_small_ones_32() -> None:
    pytest.importorskip("bitsandbytes")
    layer = nn.Linear(64, 64)
    optimizer = build_optimizer(Recipe(Part("adamw_8bit")), layer, 10)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.state[layer.weight]["state1"].dtype == torch.uint8
    assert optimizer.state[layer.bias]["state1"].dtype == torch.float32
