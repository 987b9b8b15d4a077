"""Whether a module's norms have been trained before: their values show pretrained weights."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from opttune.build.layer_classes import is_norm

_TRAINED_SPREAD = 0.03
"""Least standard deviation of a trained norm's weights and biases, over the mean of its weights. All norms of MiniLM
are above 0.035; a small network is below 0.011 after 100 steps of AdamW, and DCGAN's initialization has 0.02."""


def read_norms(module: nn.Module) -> dict[int, bool | None]:
    """Return for each norm with weights, by the id of its first parameter, whether it has been trained before.

    A new norm has equal weights and equal biases, mostly ones and zeros; training spreads both. The spread must exceed
    that of a few steps and of the usual random initializations (DCGAN's), and random weights around zero do not count.

    Args:
        module: The module before training.

    Returns:
        Id of a parameter -> True if it looks trained, False if it is new, None if its values do not show it.

    Example:
        >>> norm = nn.LayerNorm(3)
        >>> [*read_norms(nn.Linear(3, 3)).values()], [*read_norms(norm).values()]
        ([], [False])
        >>> _ = norm.load_state_dict({"weight": Tensor([0.9, 1.1, 1.0]), "bias": Tensor([0.1, 0.0, 0.2])})
        >>> [*read_norms(norm).values()]
        [True]
    """
    norms = [part for part in module.modules() if is_norm(part)]
    held = [(part, [*part.parameters(recurse=False)]) for part in norms]
    return {id(parameters[0]): _looks_trained(part, parameters) for part, parameters in held if parameters}


def _looks_trained(norm: nn.Module, parameters: Sequence[nn.Parameter]) -> bool | None:
    if not all(type(one) is nn.Parameter and one.numel() > 1 and not one.is_meta for one in parameters):
        # lazy, spread over devices, or a single number
        return None
    if all(map(is_constant, parameters)):
        return False
    scale, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if not isinstance(scale, Tensor):
        return None
    size = float(scale.detach().float().mean().abs())
    spreads = [float(one.detach().float().std()) for one in (scale, shift) if isinstance(one, Tensor)]
    return True if min(spreads) >= _TRAINED_SPREAD * size and spreads[0] <= size else None


def is_constant(parameter: Any) -> bool:
    """Return whether all elements of a parameter are equal; False for one without values yet.

    Example:
        >>> is_constant(nn.Parameter(Tensor([1.0, 1.0]))), is_constant(nn.Parameter(Tensor([1.0, 2.0])))
        (True, False)
    """
    if isinstance(parameter, UninitializedParameter):
        return False
    return bool((parameter.detach() == parameter.detach().reshape(-1)[:1]).all())


def have_trained_norms(
    module: nn.Module,
    norms: Mapping[int, bool | None],
    own_groups: Sequence[Mapping[str, Any]] | None = None,
    thawed: Container[int] = (),
) -> bool | None:
    """Return whether the norms of a module show that its weights are pretrained.

    Args:
        module: The module.
        norms: The result of `read_norms` before the first step.
        own_groups: The parameter groups of the module's own optimizer; parameters in none of them are not trained.
            None counts all parameters that are not frozen.
        thawed: Ids of parameters that are frozen now and will be trained.

    Returns:
        True if at least half of the norms to be trained look trained, False if all norms are new, None if it is
        unknown.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        >>> have_trained_norms(net, read_norms(net))
        False
    """
    held = None if own_groups is None else {id(one) for group in own_groups for one in group["params"]}
    found = [
        norms.get(id(one))
        for one in module.parameters()
        if id(one) in norms and (one.requires_grad or id(one) in thawed) and (held is None or id(one) in held)
    ]
    if found and sum(map(bool, found)) >= len(found) / 2:
        return True
    # frozen norms may be a pretrained network's
    return False if found and not any(looks or looks is None for looks in (*found, *norms.values())) else None
