"""The kind of each trainable parameter of a module: norm, bias, embedding, output or hidden matrix."""

import re
from collections.abc import Container
from dataclasses import dataclass

from torch import nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _NormBase

from opttune.errors import ModelError

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NORM_CLASS = re.compile(r"Norm(\d[dD])?$")
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_EMBEDDING_NAME = re.compile(r"(^|_)(embeds?|embeddings?|emb|token)$")
_OUTPUTS = (nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHT_OWNERS = (*_OUTPUTS, *_EMBEDDINGS, nn.MultiheadAttention, nn.RNNBase)


@dataclass(frozen=True, slots=True, eq=False)
class Trait:
    """One trainable parameter and its kind.

    Attributes:
        name: Its name in the module.
        parameter: The parameter.
        is_norm_or_bias: It belongs to a norm, is named `bias`, or has at most one dimension and is not the weight
            of a layer that multiplies by matrices.
        is_embedding: It belongs to an embedding, or acts as one (`pos_embed`, `cls_token`).
        is_output: It belongs to the last registered linear or convolutional layer among the held parameters.
        is_sparse: It belongs to an embedding with sparse gradients.
    """

    name: str
    parameter: Parameter
    is_norm_or_bias: bool
    is_embedding: bool
    is_output: bool
    is_sparse: bool = False

    @property
    def is_hidden_matrix(self) -> bool:
        """Whether it is a weight between hidden layers, of two dimensions or more."""
        return not (self.is_norm_or_bias or self.is_embedding or self.is_output)


def parameter_traits(module: nn.Module, held: Container[int] = (), among: Container[int] | None = None) -> list[Trait]:
    """Return the kind of each trainable parameter, in the order of `module.named_parameters()`.

    Args:
        module: The module.
        held: Ids of parameters that count as trainable even while they are frozen.
        among: Ids of parameters that may be the output; None for all.

    Raises:
        ModelError: No parameter is trainable.

    Example:
        >>> net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> [trait.name for trait in parameter_traits(net) if trait.is_hidden_matrix]
        ['1.weight']
    """
    owners = _owners(module)
    outputs = _output_ids(module, among)
    named = list(module.named_parameters())
    if not any(parameter.requires_grad for _, parameter in named):
        raise ModelError("the model has no trainable parameter: every one has requires_grad=False.")
    return [
        Trait(
            name=name,
            parameter=parameter,
            is_norm_or_bias=_is_norm_or_bias(name, parameter, owners[id(parameter)]),
            is_embedding=_is_embedding(name, owners[id(parameter)]),
            is_output=id(parameter) in outputs,
            is_sparse=_is_sparse(owners[id(parameter)]),
        )
        for name, parameter in named
        if parameter.requires_grad or id(parameter) in held
    ]


# one function for each kind: exported code has only those that its recipe asks for
def _owners(module: nn.Module) -> dict[int, list[nn.Module]]:
    owners: dict[int, list[nn.Module]] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(part)
    return owners


def _output_ids(module: nn.Module, among: Container[int] | None) -> set[int]:
    found: set[int] = set()
    for part in module.modules():
        own = {id(parameter) for parameter in part.parameters(recurse=False)}
        if isinstance(part, _OUTPUTS) and (among is None or any(key in among for key in own)):
            found = own
    return found


def _is_norm_or_bias(name: str, parameter: Parameter, owners: list[nn.Module]) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf == "bias" or _is_flat(parameter, leaf, owners) or any(map(_is_norm, owners))


def _is_embedding(name: str, owners: list[nn.Module]) -> bool:
    is_layer = any(isinstance(owner, _EMBEDDINGS) for owner in owners)
    return is_layer or bool(_EMBEDDING_NAME.search(name.rpartition(".")[2]))


def _is_sparse(owners: list[nn.Module]) -> bool:
    return any(isinstance(owner, _EMBEDDINGS) and owner.sparse for owner in owners)


def _is_flat(parameter: Parameter, leaf: str, owners: list[nn.Module]) -> bool:
    # FSDP flattens matrices: the layer, not the number of dimensions, shows that a weight is a matrix
    is_weight = "weight" in leaf and any(isinstance(owner, _WEIGHT_OWNERS) for owner in owners)
    return parameter.ndim <= 1 and not is_weight


def _is_norm(module: nn.Module) -> bool:
    # libraries define further norms: LlamaRMSNorm, T5LayerNorm, LayerNorm2d
    return isinstance(module, _NORMS) or bool(_NORM_CLASS.search(type(module).__name__))
