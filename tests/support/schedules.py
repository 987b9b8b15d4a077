"""An optimizer with two groups, and the rates that a scheduler gives them."""

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer

PEAKS = (0.1, 0.02)


def sgd() -> SGD:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in PEAKS]
    return SGD(groups, lr=1.0)


def rates(optimizer: Optimizer, scheduler: Any, steps: int) -> list[list[float]]:
    """Each group's rate before each step, and after the last."""
    seen = []
    for _ in range(steps + 1):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen
