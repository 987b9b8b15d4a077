"""One kernel for all weights, where torch has it; tried with torch's fused kernels for CPUs."""

from collections.abc import Callable

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer

from opttune.build.fused import use_fused
from tests.support import models as m


def trained(make: Callable[[nn.Module], Optimizer], fuse: bool) -> torch.Tensor:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = make(net)
    x = torch.randn(16, 4)
    for step in range(20):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        if step == 0 and fuse:
            assert use_fused(optimizer, "cpu")
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@pytest.mark.parametrize(
    "make",
    [
        lambda net: AdamW(net.parameters(), lr=1e-2, weight_decay=0.1),
        lambda net: Adam(net.parameters(), lr=1e-2, weight_decay=0.1),
        lambda net: SGD(net.parameters(), lr=1e-2),
        lambda net: SGD(net.parameters(), lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1),
    ],
)
def test_it_computes_the_same(make: Callable[[nn.Module], Optimizer]) -> None:
    assert torch.allclose(trained(make, fuse=True), trained(make, fuse=False), atol=1e-6)


def with_gradient(parameter: nn.Parameter) -> nn.Parameter:
    parameter.grad = torch.ones_like(parameter)
    return parameter


def test_what_torch_cannot_fuse_or_another_has_chosen_stays() -> None:
    plain = with_gradient(nn.Parameter(torch.ones(2)))
    stepped = AdamW([plain])
    stepped.step()

    class Own(AdamW):
        pass

    sparse = nn.Embedding(3, 2, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    left = [
        stepped,
        Own([plain]),
        NAdam([plain]),
        AdamW([plain], foreach=False),
        AdamW([plain], fused=False),
        AdamW([with_gradient(nn.Parameter(torch.ones(2, dtype=torch.complex64)))]),
        SGD(sparse.parameters()),
    ]

    assert not [optimizer for optimizer in left if use_fused(optimizer, "cpu")]
    # this machine's parameters are on no GPU
    assert not use_fused(AdamW([plain]))


def test_groups_that_join_later_are_fused_as_well() -> None:
    optimizer = AdamW([with_gradient(nn.Parameter(torch.ones(2)))])
    use_fused(optimizer, "cpu")
    optimizer.add_param_group({"params": [with_gradient(nn.Parameter(torch.ones(3)))]})

    assert [group["fused"] for group in optimizer.param_groups] == [True, True]
    optimizer.step()


class Fused(m.Net):
    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.parameters(), lr=1e-2)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if not optimizer.state:
            assert use_fused(optimizer, "cpu")


def test_gradients_are_still_clipped_in_mixed_precision() -> None:
    # a class that was made with fused=True is refused there: it would unscale the gradients itself
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=3, precision="bf16-mixed", gradient_clip_val=0.5, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Fused(), *m.loaders())

    assert trainer.global_step == 3
