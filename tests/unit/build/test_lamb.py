"""LAMB, update by update, against its paper's formula written out."""

import torch
from torch import Tensor, nn

from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part, Recipe
from tests.support.side_by_side import STEPS, build, check, zeros


def test_lamb_is_the_formula_of_you_et_al_after_a_clip_of_all_gradients() -> None:
    lr, beta1, beta2, eps, decay, largest = 1e-2, 0.9, 0.999, 1e-6, 0.1, 0.7
    model, optimizer = build("lamb", lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, max_grad_norm=largest)
    means, squares = zeros(model), zeros(model)

    def update(step: int, weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        norm = torch.sqrt(sum((grad**2).sum() for grad in grads))
        after = []
        for index, weight in enumerate(weights):
            grad = grads[index] * min(1.0, largest / norm)
            means[index] = beta1 * means[index] + (1 - beta1) * grad
            squares[index] = beta2 * squares[index] + (1 - beta2) * grad**2
            mean, square = means[index] / (1 - beta1**step), squares[index] / (1 - beta2**step)
            change = mean / (torch.sqrt(square) + eps) + decay * weight
            after.append(weight - lr * weight.norm() / change.norm() * change)
        return after

    check(model, optimizer, update)


def test_lamb_moves_biases_as_adamw_does() -> None:
    layer, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(layer.state_dict())
    lamb = build_optimizer(Recipe(Part("lamb", {"lr": 0.1, "max_grad_norm": 0.0})), layer, STEPS)
    adamw = build_optimizer(Recipe(Part("adamw", {"lr": 0.1, "eps": 1e-6})), twin, STEPS)
    for _ in range(3):
        for model in (layer, twin):
            for parameter in model.parameters():
                parameter.grad = torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
        lamb.step()
        adamw.step()
    torch.testing.assert_close(layer.bias, twin.bias)
    assert not torch.allclose(layer.weight, twin.weight)


def test_without_a_largest_norm_the_gradients_are_left_as_they_are() -> None:
    (model, optimizer), (twin, loose) = (build("lamb", max_grad_norm=largest) for largest in (0.0, 1e9))
    for weights, stepped in ((model, optimizer), (twin, loose)):
        for parameter in weights.parameters():
            parameter.grad = torch.full_like(parameter, 7.0)
        stepped.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
