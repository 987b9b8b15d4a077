"""What optimizers' rows put right or set beside their options; families with more to say have files of their own."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opttune.build.load import load_class
from opttune.build.optimizer import build_optimizer
from opttune.catalog import find_optimizer
from opttune.errors import MissingExtraError
from opttune.recipe import Part, Recipe
from tests.support.side_by_side import STEPS, build, check, zeros

DECOUPLED = ("adamw", "nadamw", "radam", "lion", "sophia", "adopt", "ademamix", "mars", "came", "adam_mini")
DECOUPLED_MATRIX = ("muon", "soap", "shampoo", "scalable_shampoo", "adafactor")


@pytest.mark.parametrize("name", [*DECOUPLED, *DECOUPLED_MATRIX])
def test_weight_decay_is_decoupled_and_spares_norms_and_biases(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    options: dict[str, Any] = {"lr": 0.5, "weight_decay": 0.1}
    options |= {"adamw_lr_ratio": 1.0} if name == "muon" else {}
    optimizer = build_optimizer(Recipe(Part(name, options)), model, STEPS)
    steps = 3
    for _ in range(steps):
        loss = sum((parameter**2).sum() * 0 for parameter in model.parameters())
        zeros = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        for parameter, gradient in zip(model.parameters(), zeros, strict=True):
            parameter.grad = gradient
        optimizer.step()
    decays = steps - 1 if name == "soap" else steps  # SOAP's first step only sets up its basis
    for key, parameter in model.named_parameters():
        factor = (1 - 0.5 * 0.1) ** decays if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[key] * factor, msg=lambda text, key=key: f"{key}: {text}")


def test_ademamix_is_told_the_length_of_the_training() -> None:
    optimizer = build_optimizer(Recipe(Part("ademamix")), nn.Linear(2, 2), 1234)
    assert {group["t_alpha_beta3"] for group in optimizer.param_groups} == {1234}


def test_mars_moves_biases_at_the_recipes_rate_whatever_its_class_defaults_to() -> None:
    optimizer = build_optimizer(Recipe(Part("mars", {"lr": 0.5, "weight_decay": 0.1})), nn.Linear(2, 2), 10)
    assert {group["lr_1d_factor"] for group in optimizer.param_groups} == {1.0}
    assert [group["weight_decay_1d"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_lion_is_the_formula_of_chen_et_al() -> None:
    lr, beta1, beta2, decay = 1e-2, 0.9, 0.99, 0.3
    model, optimizer = build("lion", lr=lr, betas=(beta1, beta2), weight_decay=decay)
    momenta = zeros(model)

    def update(step: int, weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        after = []
        for index, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
            direction = torch.sign(beta1 * momenta[index] + (1 - beta1) * grad)
            after.append(weight - lr * (direction + decay * weight))
            momenta[index] = beta2 * momenta[index] + (1 - beta2) * grad
        return after

    check(model, optimizer, update)


@pytest.mark.parametrize("name", ["adamw_8bit", "lion_8bit"])
def test_the_extra_is_named_where_it_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [key for key in sys.modules if key.split(".")[0] == "bitsandbytes"] or ["bitsandbytes"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"optimizer '{name}' needs .* pip install 'opttune\[8bit\]'"):
        load_class(find_optimizer(name))


@pytest.mark.slow
def test_large_tensors_have_8_bits_and_small_ones_32() -> None:
    pytest.importorskip("bitsandbytes")
    layer = nn.Linear(64, 64)
    optimizer = build_optimizer(Recipe(Part("adamw_8bit")), layer, 10)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.state[layer.weight]["state1"].dtype == torch.uint8
    assert optimizer.state[layer.bias]["state1"].dtype == torch.float32
