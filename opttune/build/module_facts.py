"""Facts about a module, for optimizers that depend on it and for the choice of a space."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parameter import UninitializedParameter

from opttune.build.groups import read_group_facts
from opttune.build.layer_classes import EMBEDDINGS, operations_by_classes
from opttune.build.norms import have_trained_norms, read_norms
from opttune.build.operations import Operations
from opttune.build.traits import parameter_traits
from opttune.space.auto import ModelFacts

_HEAD_NAMES = ("num_heads", "n_head", "n_heads", "num_attention_heads", "nhead")
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


@dataclass(frozen=True, slots=True)
class Observed:
    """What a training of a few steps showed of its module.

    Attributes:
        operations: The module's operations in one batch; None infers them from the names of the layers' classes and
            base classes.
        norms: `read_norms` of the module before its first step; None if it has not made any.
    """

    operations: Operations | None = None
    norms: Mapping[int, bool | None] | None = None


_NOTHING = Observed()


def read_facts(
    module: nn.Module,
    own_groups: Sequence[Mapping[str, Any]] | None = None,
    thawed: Container[int] = (),
    observed: Observed = _NOTHING,
) -> ModelFacts:
    """Read the facts for the choice of a space.

    Args:
        module: The module before training.
        own_groups: The parameter groups of the module's own optimizer; parameters in none of them are not trained.
        thawed: Ids of parameters that are frozen now and will be trained.
        observed: What the module's training showed so far.

    Example:
        >>> facts = read_facts(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)))
        >>> facts.parameters, facts.has_convolutions, facts.has_norms, facts.has_attention
        (532, True, True, False)
    """
    named = [(name, parameter, _size(parameter)) for name, parameter in module.named_parameters()]
    trained = [one for one in named if one[1].requires_grad or id(one[1]) in thawed]
    parameters, trainable = (sum(size for _, _, size in some) for some in (named, trained))
    norms = read_norms(module) if observed.norms is None else observed.norms
    traits = parameter_traits(module, thawed) if any(parameter.requires_grad for _, parameter, _ in named) else []
    computes = observed.operations or operations_by_classes(module)
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
        has_trained_norms=have_trained_norms(module, norms, own_groups, thawed),
        has_complex=any(size and parameter.is_complex() for _, parameter, size in trained),
        has_sparse=has_sparse_gradients(module) or any(trait.is_sparse for trait in traits),
        is_manual=not getattr(module, "automatic_optimization", True),
        groups=read_group_facts(module, own_groups),
    )


def has_sparse_gradients(module: nn.Module) -> bool:
    """Return whether a trained embedding has sparse gradients.

    Example:
        >>> has_sparse_gradients(nn.Embedding(8, 2, sparse=True)), has_sparse_gradients(nn.Embedding(8, 2))
        (True, False)
    """
    embeddings = [part for part in module.modules() if isinstance(part, EMBEDDINGS) and part.sparse]
    return any(part.weight.requires_grad for part in embeddings)


def _size(parameter: nn.Parameter) -> int:
    # a lazy layer has no size before its first batch
    return 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()


def _has_origin(part: nn.Module) -> bool:
    """Return whether Hugging Face's `from_pretrained` made it, because its configuration then names the origin."""
    origin = getattr(getattr(part, "config", None), "_name_or_path", "")
    return isinstance(origin, str) and origin != ""
