"""Muon on a CPU: the published iteration, in float32, and the same optimizer as pytorch_optimizer's otherwise."""

import pytorch_optimizer
import torch

from opttune.build.load import row_of
from opttune.build.muon import Muon


def newton_schulz(matrix, steps=5):
    """Orthogonalize as github.com/KellerJordan/Muon does, in float64."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.double()
    x = x.mT if matrix.size(0) > matrix.size(1) else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrix.size(0) > matrix.size(1) else x


def one_step(cls, weights, **options):
    parameters = [torch.nn.Parameter(weight.clone()) for weight in weights]
    optimizer = cls([{"params": parameters, "use_muon": True}], lr=0.1, momentum=0.9, **options)
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    return parameters


def test_a_step_is_the_published_iteration_in_full_precision():
    weights = [torch.zeros(6, 4), torch.zeros(4, 9), torch.zeros(6, 4), torch.zeros(5, 2, 3)]
    for parameter in one_step(Muon, weights, nesterov=False):
        # the first momentum is a tenth of the gradient, and the iteration normalizes it
        flat = parameter.grad.reshape(parameter.size(0), -1)
        scale = max(1.0, flat.size(0) / flat.size(1)) ** 0.5
        moved = -parameter.detach().reshape(flat.shape) / (0.1 * scale)
        torch.testing.assert_close(moved.double(), newton_schulz(flat), atol=1e-5, rtol=1e-5)


def test_it_differs_from_the_library_by_rounding_alone():
    weights = [torch.ones(8, 8), torch.ones(8, 3)]
    ours, theirs = (one_step(cls, weights, weight_decay=0.1) for cls in (Muon, pytorch_optimizer.Muon))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=0.01, rtol=0)
        assert not torch.equal(one, other)


def test_a_modules_own_muon_of_either_class_has_the_row():
    assert row_of(Muon).name == row_of(pytorch_optimizer.Muon).name == "muon"


def test_another_method_is_the_librarys():
    weights = [torch.ones(8, 8)]
    ours, theirs = (one_step(cls, weights, ns_method="gram_newton_schulz") for cls in (Muon, pytorch_optimizer.Muon))
    assert torch.equal(*ours, *theirs)
