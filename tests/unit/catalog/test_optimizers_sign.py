"""Lion, update by update, against its paper's formula written out."""

import torch
from torch import Tensor

from tests.support.side_by_side import build, check, zeros


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
