"""Schedule-free and Prodigy, update by update, against their papers' formulas written out."""

import torch
from torch import Tensor

from tests.support.side_by_side import build, check, zeros


def test_schedule_free_adamw_is_the_formula_of_defazio_et_al() -> None:
    lr, beta1, beta2, eps, decay = 3e-2, 0.9, 0.99, 1e-8, 0.1
    options = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
    model, optimizer = build("schedule_free_adamw", **options)
    z = [parameter.detach().clone() for parameter in model.parameters()]
    x, squares, rates = [tensor.clone() for tensor in z], zeros(model), 0.0

    def update(step: int, weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        nonlocal rates
        rates += lr**2
        after = []
        for index, (y, grad) in enumerate(zip(weights, grads, strict=True)):
            squares[index] = beta2 * squares[index] + (1 - beta2) * grad**2
            scaled = grad / (torch.sqrt(squares[index] / (1 - beta2**step)) + eps)
            z[index] = z[index] - lr * (scaled + decay * y)
            share = lr**2 / rates
            x[index] = (1 - share) * x[index] + share * z[index]
            after.append((1 - beta1) * z[index] + beta1 * x[index])
        return after

    check(model, optimizer, update, tolerance=1e-6)
    optimizer.eval()  # type: ignore[attr-defined]
    for parameter, average in zip(model.parameters(), x, strict=True):
        torch.testing.assert_close(parameter.detach(), average, rtol=1e-6, atol=1e-6)


def test_schedule_free_sgd_is_the_same_without_the_second_moment() -> None:
    lr, beta = 0.3, 0.9
    model, optimizer = build("schedule_free_sgd", lr=lr, momentum=beta)
    z = [parameter.detach().clone() for parameter in model.parameters()]
    x = [tensor.clone() for tensor in z]

    def update(step: int, weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        after = []
        for index, grad in enumerate(grads):
            z[index] = z[index] - lr * grad
            x[index] = (1 - 1 / step) * x[index] + z[index] / step
            after.append((1 - beta) * z[index] + beta * x[index])
        return after

    check(model, optimizer, update)


def test_prodigy_is_the_formula_of_mishchenko_and_defazio() -> None:
    beta1, beta2, d, eps, decay, coefficient = 0.9, 0.999, 1e-4, 1e-8, 0.1, 2.0
    options = {"betas": (beta1, beta2), "d0": d, "eps": eps, "weight_decay": decay, "d_coef": coefficient}
    model, optimizer = build("prodigy", **options)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    means, squares, sums, numerator = zeros(model), zeros(model), zeros(model), 0.0
    root = beta2**0.5

    def update(step: int, weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        nonlocal d, numerator
        inner = sum((grad * (first - weight)).sum() for grad, first, weight in zip(grads, start, weights, strict=True))
        numerator = root * numerator + (1 - root) * d**2 * inner
        for index, grad in enumerate(grads):
            means[index] = beta1 * means[index] + (1 - beta1) * d * grad
            squares[index] = beta2 * squares[index] + (1 - beta2) * d**2 * grad**2
            sums[index] = root * sums[index] + (1 - root) * d**2 * grad
        estimate = coefficient * numerator / sum(total.abs().sum() for total in sums)
        rate, d = d, max(d, float(estimate))
        return [
            weight - rate * (mean / (torch.sqrt(square) + d * eps) + decay * weight)
            for weight, mean, square in zip(weights, means, squares, strict=True)
        ]

    check(model, optimizer, update, tolerance=1e-5)  # the class keeps its estimate in 32 bits
    assert d > 1e-3  # it did find a rate of its own
