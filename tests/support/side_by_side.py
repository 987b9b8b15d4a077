"""An optimizer and a formula, stepped side by side."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part, Recipe

STEPS = 25


class Matrices(nn.Module):
    """Two matrices without layers around them."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(2, 5, generator=generator, dtype=torch.float64) * 0.1)


def gradients(step: int, weights: list[Tensor]) -> list[Tensor]:
    """Gradients that depend on where the weights are, with some noise."""
    generator = torch.Generator().manual_seed(step)
    return [
        weight * 0.5 + torch.randn(weight.shape, generator=generator, dtype=weight.dtype) / (1 + step)
        for weight in weights
    ]


def build(name: str, **options: Any) -> tuple[Matrices, Optimizer]:
    model = Matrices()
    return model, build_optimizer(Recipe(Part(name, options)), model, STEPS)


Update = Callable[[int, list[Tensor], list[Tensor]], list[Tensor]]


def check(model: nn.Module, optimizer: Optimizer, update: Update, tolerance: float = 1e-10) -> None:
    """Step the optimizer and the formula side by side; both see gradients of their own weights."""
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(1, STEPS + 1):
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, gradients(step, [p.detach() for p in parameters]), strict=True):
            parameter.grad = gradient
        optimizer.step()
        weights = update(step, weights, gradients(step, weights))
        for parameter, weight in zip(parameters, weights, strict=True):
            torch.testing.assert_close(parameter.detach(), weight, rtol=tolerance, atol=tolerance)


def zeros(model: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(parameter) for parameter in model.parameters()]
