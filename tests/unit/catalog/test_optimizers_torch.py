"""Update by update: what a recipe builds against torch's class, its groups written out by hand."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part, Recipe
from tests.support.optimizer_tasks import TASKS

STEPS = 30
Build = Callable[[list[dict[str, Any]]], Optimizer]

PAIRS: dict[str, tuple[Part, Build]] = {
    "sgd": (
        Part("sgd", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.8, nesterov=True),
    ),
    "momentum": (
        Part("momentum", {"lr": 0.1, "weight_decay": 0.01}),
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    ),
    "nesterov": (
        Part("nesterov", {"lr": 0.1, "weight_decay": 0.01}),
        lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (
        Part("rmsprop", {"lr": 3e-3, "alpha": 0.95, "momentum": 0.5, "centered": True, "weight_decay": 0.01}),
        lambda groups: torch.optim.RMSprop(groups, lr=3e-3, alpha=0.95, momentum=0.5, centered=True),
    ),
    "adam": (
        Part("adam", {"lr": 1e-2, "betas": (0.8, 0.99), "weight_decay": 0.01}),
        lambda groups: torch.optim.Adam(groups, lr=1e-2, betas=(0.8, 0.99)),
    ),
    "adamw": (
        Part("adamw", {"lr": 1e-2, "eps": 1e-6, "weight_decay": 0.01}),
        lambda groups: torch.optim.AdamW(groups, lr=1e-2, eps=1e-6),
    ),
    "nadamw": (
        Part("nadamw", {"lr": 1e-2, "weight_decay": 0.01}),
        lambda groups: torch.optim.NAdam(groups, lr=1e-2, decoupled_weight_decay=True),
    ),
    "radam": (
        Part("radam", {"lr": 1e-2, "weight_decay": 0.01}),
        lambda groups: torch.optim.RAdam(groups, lr=1e-2, decoupled_weight_decay=True),
    ),
    "adafactor": (
        Part("adafactor", {"lr": 5e-2, "weight_decay": 0.01}),
        lambda groups: torch.optim.Adafactor(groups, lr=5e-2),
    ),
}


def steps(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, optimizers: Iterable[Optimizer]) -> None:
    model.zero_grad()
    cross_entropy(model(inputs), labels).backward()
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize("name", PAIRS)
def test_updates_equal_those_of_torch(name: str) -> None:
    part, build = PAIRS[name]
    model, inputs, labels = TASKS["cnn"].make()
    twin, *_ = TASKS["cnn"].make()
    ours = build_optimizer(Recipe(part), model, STEPS)
    matrices = [parameter for parameter in twin.parameters() if parameter.ndim > 1]
    flat = [parameter for parameter in twin.parameters() if parameter.ndim == 1]
    theirs = build([{"params": matrices, "weight_decay": 0.01}, {"params": flat, "weight_decay": 0.0}])
    for _ in range(STEPS):
        steps(model, inputs, labels, [ours])
        steps(twin, inputs, labels, [theirs])
        for parameter, expected in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(parameter, expected)
