"""Steps of torch's own optimizers in one kernel instead of many."""

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer

_HAVE_FUSED = (Adam, AdamW, SGD)
"""Classes of the catalog with a fused implementation; by default torch uses `foreach`, some kernels per group."""


def use_fused(optimizer: Optimizer, device: str = "cuda") -> bool:
    """Let an optimizer that has not stepped yet update all tensors in one kernel, if torch can.

    The results are the same as with the other implementations, up to rounding. The flag is set in the groups, not given
    to the class: the class would then also unscale the gradients of a `GradScaler`, unseen by the clipping and the
    guard.

    Args:
        optimizer: The optimizer; its gradients are computed.
        device: The required kind of device of its parameters.

    Returns:
        Whether it is fused from now on.

    Example:
        >>> weight = Parameter(torch.ones(2))
        >>> weight.grad = torch.ones(2)
        >>> use_fused(AdamW([weight])), use_fused(AdamW([weight]), "cpu"), use_fused(torch.optim.NAdam([weight]), "cpu")
        (False, True, False)
    """
    # a subclass may behave differently; a state may belong to another implementation
    if type(optimizer) not in _HAVE_FUSED or optimizer.state:
        return False
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    chosen = [group.get(name) for group in optimizer.param_groups for name in ("foreach", "fused")]
    is_differentiable = any(group.get("differentiable") for group in optimizer.param_groups)
    is_free = all(one is None for one in chosen) and not is_differentiable
    if not held or not is_free or not all(_is_plain(parameter, device) for parameter in held):
        return False
    for group in (*optimizer.param_groups, optimizer.defaults):
        # groups that a hook adds later take the defaults
        group["fused"] = True
    return True


def _is_plain(parameter: Tensor, device: str) -> bool:
    """Return whether it is a plain tensor of floats on such a device, with a dense gradient if it has one."""
    is_dense = parameter.grad is None or parameter.grad.layout == torch.strided
    return (
        type(parameter) is Parameter and parameter.device.type == device and parameter.is_floating_point() and is_dense
    )
