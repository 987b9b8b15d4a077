"""LAMB after You et al. 2019, arxiv.org/abs/1904.00962.

pytorch_optimizer's class corrects only the bias of the first moment, so its first steps are ten times too long, and it
bounds the norm of a weight tensor by 10. This class follows the paper's formula.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lamb(Optimizer):
    """AdamW's update, scaled for each tensor by the tensor's norm.

    With `r = m_hat / (sqrt(v_hat) + eps)`, bias-corrected as in Adam::

        theta <- theta - lr * |theta| / |r + weight_decay * theta| * (r + weight_decay * theta)

    The ratio of norms is 1 if either norm is 0, and for one-dimensional tensors (norms, biases), which the authors'
    code leaves out. Before that, the gradients of all groups together are scaled down to `max_grad_norm`.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, > 0: the length of a tensor's step as a share of its norm.
        betas: Decay rates of `m` and `v`, in [0, 1).
        eps: Added to the denominator, > 0.
        weight_decay: Weight decay, >= 0.
        max_grad_norm: Largest norm of all gradients together; 0 does not clip.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
            "step": 0,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; see the class for the formula."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale = self._gradient_scale()
        for group in self.param_groups:
            group["step"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad * scale, group)
        return loss

    def _gradient_scale(self) -> Tensor | float:
        largest = self.param_groups[0]["max_grad_norm"]
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not largest or not gradients:
            return 1.0
        norm: Tensor = torch.nn.utils.get_total_norm(gradients)
        return torch.clamp(largest / norm.clamp(min=1e-12), max=1.0)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - beta2)
        root = (square / (1 - beta2 ** group["step"])).sqrt_().add_(group["eps"])
        update = (mean / (1 - beta1 ** group["step"])).div_(root).add_(parameter, alpha=group["weight_decay"])
        if parameter.ndim > 1:
            weight_norm, update_norm = parameter.norm(), update.norm()
            ratio = torch.where((weight_norm > 0) & (update_norm > 0), weight_norm / update_norm, 1.0)
            update.mul_(ratio)
        parameter.add_(update, alpha=-group["lr"])
