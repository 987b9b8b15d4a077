"""Muon after Jordan 2024, kellerjordan.github.io/posts/muon, with an iteration that is fast on CPUs too.

pytorch_optimizer's class multiplies matrices in bfloat16. A CPU without instructions for it takes many times as
long as in float32 (docs/optimizers.md has the cost of a step).
"""

from typing import Any

import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5
from torch import Tensor


class Muon(pytorch_optimizer.Muon):
    """pytorch_optimizer's Muon, whose Newton-Schulz iteration runs in float32 on a CPU."""

    @staticmethod
    def _orthogonalize(group: dict[str, Any], updates: list[Tensor]) -> list[Tensor]:
        is_on_cpu = all(update.device.type == "cpu" for update in updates)
        if not is_on_cpu or group["ns_method"] != "newton_schulz":
            return pytorch_optimizer.Muon._orthogonalize(group, updates)
        return [
            zero_power_via_newton_schulz_5(
                update.reshape(update.size(0), -1),
                num_steps=group["ns_steps"],
                weights=group["ns_coeffs"],
                dtype=torch.float32,
            )
            for update in updates
        ]
