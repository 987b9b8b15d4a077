"""What the names of layers' classes and base classes say about a module."""

import re

from torch import nn

from opttune.build.operations import Operations

_NORM_CLASS = re.compile(r"Norm(\d[dD])?$")
_ATTENTION_CLASS = re.compile(r"Attention|Attn")
_RECURRENT_CLASS = re.compile(r"(LSTM|GRU|RNN|RNNBase)(Cell|CellBase)?$")
_CONVOLUTION_CLASS = re.compile(r"Conv\w*\d[dD]$|^_ConvNd$")
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
"""The layers whose gradients may be sparse."""


def operations_by_classes(module: nn.Module) -> Operations:
    """Return the operations that the classes of a module's layers indicate.

    Args:
        module: The module.

    Example:
        >>> operations_by_classes(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))).has_norms
        True
    """
    classes = {kind.__name__ for part in module.modules() for kind in type(part).__mro__}
    return Operations(
        has_convolutions=_any(_CONVOLUTION_CLASS, classes),
        has_attention=_any(_ATTENTION_CLASS, classes),
        is_recurrent=_any(_RECURRENT_CLASS, classes),
        has_norms=_any(_NORM_CLASS, classes),
        has_embeddings=any(isinstance(part, EMBEDDINGS) for part in module.modules()),
    )


def is_norm(part: nn.Module) -> bool:
    """Return whether a layer is a norm, by its class.

    Args:
        part: The layer.

    Example:
        >>> is_norm(nn.LayerNorm(3)), is_norm(nn.Linear(3, 3))
        (True, False)
    """
    names = {kind.__name__ for kind in type(part).__mro__}
    # a layer with normed weights, or a convolution with its norm, may have such a name
    is_layer = isinstance(part, nn.Linear) or _any(_CONVOLUTION_CLASS, names)
    return _any(_NORM_CLASS, names) and not is_layer


def _any(pattern: re.Pattern[str], names: set[str]) -> bool:
    return any(pattern.search(name) for name in names)
