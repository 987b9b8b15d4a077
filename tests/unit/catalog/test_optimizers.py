"""What several optimizers' classes get wrong by default, and their rows put right."""

from typing import Any

import pytest
import torch
from torch import nn

from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part, Recipe
from tests.support.side_by_side import STEPS

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
