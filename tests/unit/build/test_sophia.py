"""Sophia, update by update, against its paper's formula written out."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from opttune.build.optimizer import build_optimizer
from opttune.build.sophia import SophiaH
from opttune.catalog import find_optimizer
from opttune.errors import ModelError
from opttune.recipe import Part, Recipe
from tests.support.optimizer_tasks import TASKS, backward
from tests.support.side_by_side import STEPS


def test_sophia_is_algorithm_3_of_liu_et_al_with_hutchinsons_estimate() -> None:
    lr, beta1, beta2, gamma, eps, decay, period = 3e-2, 0.96, 0.99, 0.5, 1e-12, 0.1, 3
    curvature = torch.tensor([[3.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.1]], dtype=torch.float64)
    model = nn.Module()
    model.weight = nn.Parameter(torch.tensor([[1.0], [-2.0], [3.0]], dtype=torch.float64))
    options = {"lr": lr, "betas": (beta1, beta2), "gamma": gamma, "eps": eps, "weight_decay": decay}
    part = Part("sophia", {**options, "update_period": period})
    optimizer = build_optimizer(Recipe(part), model, STEPS)
    assert isinstance(optimizer, SophiaH)
    weight, momentum, hessian = model.weight.detach().clone(), torch.zeros(3, 1), torch.zeros(3, 1)
    for step in range(STEPS):
        due = step % period == 0
        assert optimizer.needs_graph_now is due
        model.weight.grad = None
        loss = 0.5 * (model.weight * (curvature @ model.weight)).sum()
        (gradient,) = torch.autograd.grad(loss, model.weight, create_graph=due)
        model.weight.grad = gradient
        optimizer.step()

        momentum = beta1 * momentum + (1 - beta1) * (curvature @ weight)
        if due:
            noise = torch.randn(3, 1, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            hessian = beta2 * hessian + (1 - beta2) * noise * (curvature @ noise)
        weight = weight - lr * decay * weight
        weight = weight - lr * torch.clamp(momentum / torch.clamp(gamma * hessian, min=eps), -1, 1)
        torch.testing.assert_close(model.weight.detach(), weight, rtol=1e-10, atol=1e-10)
        assert not model.weight.grad.requires_grad


def test_gradients_that_depend_on_nothing_have_no_curvature() -> None:
    layer = nn.Linear(1, 1)
    optimizer = build_optimizer(Recipe(Part("sophia", {"lr": 0.1, "weight_decay": 0.0})), layer, STEPS)
    loss = layer.weight.square().sum() + 3 * layer.bias.sum()
    layer.weight.grad, layer.bias.grad = torch.autograd.grad(loss, [layer.weight, layer.bias], create_graph=True)
    bias = layer.bias.item()
    optimizer.step()
    assert optimizer.state[layer.weight]["hessian"].item() > 0
    assert optimizer.state[layer.bias]["hessian"].item() == 0
    assert layer.bias.item() == pytest.approx(bias - 0.1)


def test_sophia_says_that_it_needs_the_graph() -> None:
    layer = nn.Linear(2, 2)
    optimizer = build_optimizer(Recipe(Part("sophia")), layer, STEPS)
    layer(torch.ones(1, 2)).sum().backward()
    with pytest.raises(ModelError, match=r"backward\(create_graph=True\) where optimizer\.needs_graph_now is true"):
        optimizer.step()


def test_sophia_steps_after_a_clip_of_the_gradients() -> None:
    model, inputs, labels = TASKS["mlp"].make()
    recipe = Recipe(Part("sophia", {"update_period": 1}))
    optimizer = build_optimizer(recipe, model, 10)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), labels)
        backward(loss, find_optimizer("sophia"))
        clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
