"""SophiaH: Sophia with Hutchinson's estimate of the Hessian, after Liu et al. 2023, arxiv.org/abs/2305.14342.

pytorch_optimizer's class scales learning rate and decay differently (its lr is the paper's divided by gamma, and its
decay is multiplied by that lr), so the paper's settings do not carry over. With this class they do.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from opttune.errors import ModelError


class SophiaH(Optimizer):
    """Momentum divided by the Hessian's diagonal, with each weight's step bounded by the learning rate.

    `m` is the running mean of the gradients. `h` is the running mean of the estimates `u * (H u)` with normal `u`,
    renewed every `update_period` steps::

        theta = (1 - lr * weight_decay) * theta
        theta = theta - lr * clip(m / max(gamma * h, eps), -1, 1)

    The noise `u` depends only on the step, so a resumed run equals an uninterrupted one.

    On steps where `needs_graph_now` is true, the backward pass must keep the gradients' graph
    (`create_graph=True`). The step frees that graph.

    Args:
        params: Parameters or groups of them.
        lr: Bound of each weight's step, > 0.
        betas: Decay rates of `m` and `h`, in [0, 1).
        gamma: Scale of the curvature, > 0.
        update_period: Steps between estimates of the Hessian, >= 1.
        eps: Least denominator, > 0.
        weight_decay: Decoupled weight decay, >= 0.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 6e-4,
        betas: tuple[float, float] = (0.96, 0.99),
        gamma: float = 0.01,
        update_period: int = 10,
        eps: float = 1e-12,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "gamma": gamma,
            "update_period": update_period,
            "eps": eps,
            "weight_decay": weight_decay,
            "step": 0,
        }
        super().__init__(params, defaults)

    @property
    def needs_graph_now(self) -> bool:
        """Whether the next step estimates the Hessian, and so needs `backward(create_graph=True)`."""
        group = self.param_groups[0]
        return bool(group["step"] % group["update_period"] == 0)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; see the class for the formula.

        Raises:
            ModelError: A Hessian is due and the gradients carry no graph.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.needs_graph_now:
            self._estimate_hessian()
        for group in self.param_groups:
            group["step"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.detach()  # frees the graph
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        momentum, hessian = self._state_of(parameter)
        momentum.lerp_(gradient, 1 - group["betas"][0])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        ratio = momentum / (group["gamma"] * hessian).clamp(min=group["eps"])
        parameter.add_(ratio.clamp_(-1, 1), alpha=-group["lr"])

    def _estimate_hessian(self) -> None:
        pairs = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        parameters = [parameter for parameter, _ in pairs]
        # a gradient that depends on no parameter has no graph and adds nothing to the Hessian
        curved = [index for index, (p, _) in enumerate(pairs) if p.grad.requires_grad]
        if not curved:
            raise ModelError(
                "sophia estimates the Hessian at this step, and the gradients carry no graph: "
                "call backward(create_graph=True) where optimizer.needs_graph_now is true."
            )
        noises = _draw_noises(parameters, seed=self.param_groups[0]["step"])
        products = torch.autograd.grad(
            [parameters[index].grad for index in curved],
            parameters,
            [noises[index] for index in curved],
            allow_unused=True,
            materialize_grads=True,
        )
        for (parameter, group), noise, product in zip(pairs, noises, products, strict=True):
            self._state_of(parameter)[1].lerp_(noise * product, 1 - group["betas"][1])

    def _state_of(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["hessian"] = torch.zeros_like(parameter)
        return state["momentum"], state["hessian"]


def _draw_noises(parameters: list[Tensor], seed: int) -> list[Tensor]:
    generators = {p.device: torch.Generator(p.device).manual_seed(seed) for p in parameters}
    return [torch.randn(p.shape, generator=generators[p.device], dtype=p.dtype, device=p.device) for p in parameters]
