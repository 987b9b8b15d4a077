"""Facts about a module, for optimizers that depend on it and for the choice of a space."""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from opttune.build.groups import read_group_facts
from opttune.build.operations import Operations
from opttune.build.traits import parameter_traits
from opttune.space.auto import ModelFacts

_HEAD_NAMES = ("num_heads", "n_head", "n_heads", "num_attention_heads", "nhead")
_NORM_CLASS = re.compile(r"Norm(\d[dD])?$")
_ATTENTION_CLASS = re.compile(r"Attention|Attn")
_RECURRENT_CLASS = re.compile(r"(LSTM|GRU|RNN|RNNBase)(Cell|CellBase)?$")
_CONVOLUTION_CLASS = re.compile(r"Conv\w*\d[dD]$|^_ConvNd$")
_TRAINED_SPREAD = 0.03
"""Least standard deviation of a trained norm's weights and biases, over the mean of its weights. All norms of MiniLM
are above 0.035; a small network is below 0.011 after 100 steps of AdamW, and DCGAN's initialization has 0.02."""
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_LORA_NAME = re.compile(r"(^|[._])lora_")
_QUERY_NAMES = ("q_proj.weight", "k_proj.weight", "wq.weight", "wk.weight")


def attention_width(module: nn.Module) -> int:
    """Return the width of the queries' input; 1 if no parameter is named as a query or key.

    Example:
        >>> attention_width(nn.ModuleDict({"q_proj": nn.Linear(8, 8)}))
        8
    """
    for name, parameter in module.named_parameters():
        if name.endswith(_QUERY_NAMES) and parameter.ndim == 2:
            return int(parameter.shape[1])
    return 1


def attention_heads(module: nn.Module) -> int:
    """Return the number of attention heads of the first module with such an attribute; 1 if none fits.

    Example:
        >>> attention_heads(nn.MultiheadAttention(8, 2))
        1
        >>> attention_heads(nn.ModuleDict({"q_proj": nn.Linear(8, 8), "other": nn.MultiheadAttention(8, 2)}))
        2
    """
    width = attention_width(module)
    for part in module.modules():
        for name in _HEAD_NAMES:
            heads = getattr(part, name, None)
            if isinstance(heads, int) and heads > 0 and width % heads == 0:
                return heads
    return 1


def read_facts(
    module: nn.Module,
    own_groups: Sequence[Mapping[str, Any]] | None = None,
    thawed: Container[int] = (),
    operations: Operations | None = None,
    norms: Mapping[int, bool | None] | None = None,
) -> ModelFacts:
    """Read the facts for the choice of a space.

    Args:
        module: The module before training.
        own_groups: The parameter groups of the module's own optimizer; parameters in none of them are not trained.
        thawed: Ids of parameters that are frozen now and will be trained.
        operations: The module's operations in one batch; None infers them from the names of the layers' classes and
            base classes.
        norms: `read_norms` of the module before its first step; None if it has not made any.

    Example:
        >>> facts = read_facts(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)))
        >>> facts.parameters, facts.has_convolutions, facts.has_norms, facts.has_attention
        (532, True, True, False)
    """
    named = [(name, parameter, _size(parameter)) for name, parameter in module.named_parameters()]
    trained = [one for one in named if one[1].requires_grad or id(one[1]) in thawed]
    parameters, trainable = (sum(size for _, _, size in some) for some in (named, trained))
    traits = parameter_traits(module, thawed) if any(parameter.requires_grad for _, parameter, _ in named) else []
    computes = operations or _by_classes(module)
    return ModelFacts(
        parameters=parameters,
        trainable_share=trainable / parameters if parameters else 1.0,
        has_convolutions=computes.has_convolutions,
        has_attention=computes.has_attention,
        is_recurrent=computes.is_recurrent,
        has_norms=computes.has_norms,
        has_lora=any(_LORA_NAME.search(name) for name, _, _ in trained),
        has_embeddings=computes.has_embeddings,
        has_hidden_matrices=trainable > 0 and any(trait.is_hidden_matrix for trait in traits),
        looks_pretrained=any(_has_origin(part) for part in module.modules()),
        has_trained_norms=_have_trained_norms(
            module, own_groups, thawed, read_norms(module) if norms is None else norms
        ),
        has_complex=any(size and parameter.is_complex() for _, parameter, size in trained),
        has_sparse=has_sparse_gradients(module) or any(trait.is_sparse for trait in traits),
        is_manual=not getattr(module, "automatic_optimization", True),
        groups=read_group_facts(module, own_groups),
    )


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
    norms = [part for part in module.modules() if _is_norm(part)]
    held = [(part, [*part.parameters(recurse=False)]) for part in norms]
    return {id(parameters[0]): _looks_trained(part, parameters) for part, parameters in held if parameters}


def _is_norm(part: nn.Module) -> bool:
    names = {kind.__name__ for kind in type(part).__mro__}
    # a layer with normed weights, or a convolution with its norm, may have such a name
    is_layer = isinstance(part, nn.Linear) or _any(_CONVOLUTION_CLASS, names)
    return _any(_NORM_CLASS, names) and not is_layer


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


def _have_trained_norms(
    module: nn.Module,
    own_groups: Sequence[Mapping[str, Any]] | None,
    thawed: Container[int],
    norms: Mapping[int, bool | None],
) -> bool | None:
    """Return whether at least half of the norms to be trained look trained; False if all of them are new."""
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


def _by_classes(module: nn.Module) -> Operations:
    classes = {kind.__name__ for part in module.modules() for kind in type(part).__mro__}
    return Operations(
        has_convolutions=_any(_CONVOLUTION_CLASS, classes),
        has_attention=_any(_ATTENTION_CLASS, classes),
        is_recurrent=_any(_RECURRENT_CLASS, classes),
        has_norms=_any(_NORM_CLASS, classes),
        has_embeddings=any(isinstance(part, _EMBEDDINGS) for part in module.modules()),
    )


def has_sparse_gradients(module: nn.Module) -> bool:
    """Return whether a trained embedding has sparse gradients.

    Example:
        >>> has_sparse_gradients(nn.Embedding(8, 2, sparse=True)), has_sparse_gradients(nn.Embedding(8, 2))
        (True, False)
    """
    embeddings = [part for part in module.modules() if isinstance(part, _EMBEDDINGS) and part.sparse]
    return any(part.weight.requires_grad for part in embeddings)


def _size(parameter: nn.Parameter) -> int:
    # a lazy layer has no size before its first batch
    return 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()


def _any(pattern: re.Pattern[str], names: set[str]) -> bool:
    return any(pattern.search(name) for name in names)


def _has_origin(part: nn.Module) -> bool:
    """Return whether Hugging Face's `from_pretrained` made it, because its configuration then names the origin."""
    origin = getattr(getattr(part, "config", None), "_name_or_path", "")
    return isinstance(origin, str) and origin != ""
