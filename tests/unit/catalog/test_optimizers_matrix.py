"""Muon against torch's, and how its two halves are set up."""

from collections.abc import Iterable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from opttune.build.optimizer import build_optimizer
from opttune.build.schedule import build_scheduler
from opttune.recipe import Part, Recipe
from tests.support.optimizer_tasks import TASKS
from tests.support.side_by_side import STEPS


@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_muon_equals_torchs_for_hidden_matrices_and_adamw_for_the_rest(
    adjust: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch's iteration turns to bfloat16 on any device, opttune's not on a CPU
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    model, inputs, labels = TASKS["transformer"].make()
    twin, *_ = TASKS["transformer"].make()
    options = {"lr": 2e-2, "adamw_lr_ratio": 0.25, "weight_decay": 0.1, "use_adjusted_lr": adjust is not None}
    ours = build_optimizer(Recipe(Part("muon", options)), model, STEPS)
    matrices = [p for name, p in twin.named_parameters() if name.startswith("encoder.") and p.ndim == 2]
    vectors = [p for p in twin.parameters() if p.ndim == 1]
    rest = [twin.pos_embed, twin.token_embedding.weight, twin.head.weight]
    muon = torch.optim.Muon(matrices, lr=2e-2, weight_decay=0.1, momentum=0.95, eps=1e-7, adjust_lr_fn=adjust)
    adamw_groups = [{"params": rest, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(adamw_groups, lr=5e-3, betas=(0.9, 0.95), eps=1e-10)
    for _ in range(5):
        before = [parameter.detach().clone() for parameter in twin.parameters()]
        steps(model, inputs, labels, [ours])
        steps(twin, inputs, labels, [muon, adamw])
        for parameter, expected, old in zip(model.parameters(), twin.parameters(), before, strict=True):
            assert (parameter - expected).norm() <= 1e-4 * (expected - old).norm()
        model.load_state_dict(twin.state_dict())  # so that the last digits of one step do not grow in the next


def steps(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, optimizers: Iterable[Optimizer]) -> None:
    model.zero_grad()
    cross_entropy(model(inputs), labels).backward()
    for optimizer in optimizers:
        optimizer.step()


def test_muons_adamw_rate_is_a_share_of_lr_and_follows_the_schedule() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    optimizer = build_optimizer(Recipe(Part("muon", {"lr": 0.1, "adamw_lr_ratio": 0.25})), net, 10)
    rates = {group["use_muon"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {True: 0.1, False: 0.025}
    scheduler = build_scheduler(Part("linear"), optimizer, 10)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    rates = {group["use_muon"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({True: 0.05, False: 0.0125})


def test_a_model_without_hidden_matrices_is_left_to_adamw() -> None:
    optimizer = build_optimizer(Recipe(Part("muon")), nn.Linear(3, 2), 10)
    assert [group["use_muon"] for group in optimizer.param_groups] == [False, False]
