"""The depth of each parameter in a module, for learning rates that fall from the output to the input.

Layers are counted in the order of their registration. A layer is a block of a stack (a child of a `Sequential` or
`ModuleList`, or one of several siblings of the same class), a module of torch's own, or a module without children.
Modules that only wrap such layers are not layers themselves. A norm has the depth of the layer before it;
embeddings have depth 0.
"""

import re
from collections import Counter
from collections.abc import Iterator

from torch import nn

from opttune.build.traits import Trait

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_EMBEDDING_PART = re.compile(r"(^|_)(embeds?|embeddings?|emb|wte|wpe)$")

Layer = tuple[str, list[int]]
"""The path of a layer, and the ids of its parameters."""


def parameter_depths(module: nn.Module, traits: list[Trait]) -> dict[str, int]:
    """Return the depth of each parameter: 0 for embeddings or the first layer, rising to the output.

    Args:
        module: The module.
        traits: Its trainable parameters, from `parameter_traits`.

    Example:
        >>> from opttune.build.traits import parameter_traits
        >>> net = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 1))
        >>> depths = parameter_depths(net, parameter_traits(net))
        >>> [depths[name] for name in ("0.weight", "1.weight", "2.bias", "3.weight")]
        [0, 0, 1, 2]
    """
    by_id = {id(trait.parameter): trait for trait in traits}
    depths: dict[str, int] = {}
    depth = -1
    for path, ids in _layers(module, ""):
        members = [by_id[key] for key in ids if key in by_id and by_id[key].name not in depths]
        if not members:
            continue
        if _is_bottom(path, members):
            depth = max(depth, 0)
            depths |= {trait.name: 0 for trait in members}
            continue
        if depth < 0 or not all(trait.is_norm_or_bias for trait in members):
            depth += 1
        depths |= {trait.name: 0 if trait.is_embedding else depth for trait in members}
    return depths


def _is_bottom(path: str, members: list[Trait]) -> bool:
    named = any(_EMBEDDING_PART.search(part) for part in path.split("."))
    return named or all(trait.is_embedding for trait in members)


def _layers(module: nn.Module, path: str, is_block: bool = False) -> Iterator[Layer]:
    if not _is_wrapper(module, is_block):
        yield path, [id(parameter) for parameter in module.parameters()]
        return
    # a wrapper's own parameters, such as a position embedding
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{path}.{name}", [id(parameter)]
    siblings = Counter(type(child) for child in module.children() if _has_children(child))
    for name, child in module.named_children():
        is_item = isinstance(module, _LISTS) or siblings[type(child)] > 1
        yield from _layers(child, f"{path}.{name}", is_block=is_item)


def _is_wrapper(module: nn.Module, is_block: bool) -> bool:
    if not _has_children(module):
        return False
    if isinstance(module, _LISTS) or any(_is_stack(part) for part in module.modules()):
        return True
    is_torchs_own = type(module).__module__.startswith("torch.nn.") and type(module) is not nn.Module
    return not is_block and not is_torchs_own


def _is_stack(module: nn.Module) -> bool:
    """Whether the module is a list with repeated blocks of one class."""
    if not isinstance(module, _LISTS):
        return False
    blocks = Counter(type(child) for child in module.children() if _has_children(child))
    return any(count > 1 and not issubclass(kind, _LISTS) for kind, count in blocks.items())


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None
