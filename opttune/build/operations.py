"""The operations of a module, observed in one batch: hand-written layers count like torch's.

A function mode sees every call of a torch function. The origin of its tensors distinguishes attention from other
products: a tensor is data (the batch and its results), learned (parameters and results of parameters only) or fixed.
"""

import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_ATTENTION = re.compile(r"attention|attn|transformer_encoder_layer")
_CONVOLUTION = re.compile(r"conv(_transpose)?[123]d|convolution|conv_tbc")
_RECURRENT = re.compile(r"^(lstm|gru|rnn_tanh|rnn_relu)(_cell)?$")
_NORM = re.compile(r"(batch|layer|group|instance|rms)_norm")
_RANDOM = re.compile(r"^(rand\w*|(log_)?normal|uniform|bernoulli|multinomial|poisson|exponential|cauchy|geometric)$")
_PRODUCTS = {"matmul", "mm", "bmm", "einsum", "linear", "inner", "tensordot"}
_SUMS_OF_PRODUCTS = {"addmm", "baddbmm", "addbmm"}
_LOOKUPS = {"embedding": ("input", 0), "embedding_bag": ("input", 0), "__getitem__": ("", 1), "index_select": ("", 2)}
_REPEATS = 4
"""A weight that is multiplied this often with its own results is a recurrence. Cycles of two or three uses occur
elsewhere (CycleGAN). Layers shared in depth also count, but not beside attention (ALBERT)."""


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of a module.

    Attributes:
        has_convolutions: Whether it convolves with learned or computed weights.
        has_attention: Whether it uses attention: a function of torch, or a softmax between two products of activations.
        is_recurrent: Whether it runs recurrent cells, or applies a weight repeatedly to its own results.
        has_norms: Whether it normalizes activations.
        has_embeddings: Whether the data looks up rows of a learned table.
    """

    has_convolutions: bool = False
    has_attention: bool = False
    is_recurrent: bool = False
    has_norms: bool = False
    has_embeddings: bool = False


class _Origin(Enum):
    FIXED = 0
    LEARNED = 1
    DATA = 2


class _Mark(Enum):
    """The operation that made a tensor of data, since the last layer with weights."""

    PRODUCT = "a product of two tensors of data"
    SHARES = "a softmax of such a product"
    MOMENT = "a mean or a variance"
    SPREAD = "the root of such a one"
    UNIT = "a vector of length one"


@dataclass(frozen=True, slots=True)
class _Trace:
    """The origin of a tensor.

    Attributes:
        origin: The kind of its origin.
        marks: The operations that made it.
        uses: Id of a parameter -> its number of uses in a row; for a learned tensor its parameters, each with 0.
    """

    origin: _Origin
    marks: frozenset[_Mark] = frozenset()
    uses: Mapping[int, int] = field(default_factory=dict)


_NO_MARKS: frozenset[_Mark] = frozenset()
_FIXED, _DATA = _Trace(_Origin.FIXED), _Trace(_Origin.DATA)


@contextmanager
def watched(watch: "OperationWatch") -> Iterator[None]:
    """Let a watch see all operations; inside the context, compiled functions run uncompiled."""
    with torch.compiler.set_stance("force_eager"), watch:
        yield


class OperationWatch(TorchFunctionMode):
    """Sees the torch functions that are called while it is active.

    Args:
        module: The module that computes; its buffers count as fixed.

    Example:
        >>> watch = OperationWatch(net := nn.Conv1d(2, 2, 3))
        >>> with watched(watch):
        ...     _ = net(torch.ones(1, 2, 8))
        >>> watch.seen.has_convolutions, watch.seen.has_attention
        (True, False)
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        # by their ids: the module keeps them alive
        self._buffers = {id(buffer) for buffer in module.buffers()}
        self._known: dict[int, tuple[weakref.ref[Tensor], _Trace]] = {}
        self._found: set[str] = set()
        self._repeats = False

    @property
    def seen(self) -> Operations:
        """The operations so far."""
        found = dict.fromkeys(self._found, True)
        if self._repeats and "has_attention" not in found:
            found["is_recurrent"] = True
        return Operations(**found)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, and note its arguments and its result."""
        named = kwargs or {}
        # before it runs, because in-place functions change their arguments
        name = getattr(func, "__name__", "")
        trace = self._trace_of_result(name if name.startswith("__") else name.removesuffix("_"), args, named)
        result = func(*args, **named)
        for tensor in _tensors(args[:1] if name == "__setitem__" else result):
            self._known[id(tensor)] = weakref.ref(tensor), trace
        return result

    def _trace_of(self, tensor: Tensor) -> _Trace:
        if isinstance(tensor, nn.Parameter):
            return _Trace(_Origin.LEARNED, uses={id(tensor): 0})
        if id(tensor) in self._buffers:
            return _FIXED
        known = self._known.get(id(tensor))
        # another tensor may have had the id before
        return known[1] if known is not None and known[0]() is tensor else _DATA

    def _trace_of_result(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Trace:
        given = [self._trace_of(tensor) for tensor in _tensors((args, kwargs))]
        if _RANDOM.search(name):
            return _DATA
        origin = max((one.origin for one in given), key=lambda one: one.value, default=_Origin.FIXED)
        self._note_lookup(name, args, kwargs)
        is_layer = self._is_layer(name, args, kwargs)
        if origin is not _Origin.DATA:
            return _Trace(origin, uses=_merged(given)) if given else _FIXED
        data = [one for one in given if one.origin is _Origin.DATA]
        factors = self._factors(name, args, kwargs)
        if factors or is_layer:
            return _Trace(origin, self._multiplied(factors), self._used(data, given))
        return _Trace(origin, self._passed(name, data, given), _merged(data))

    def _note_lookup(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note whether data selects rows of a table; positions are selected by fixed tensors."""
        if name not in _LOOKUPS:
            return
        keyword, place = _LOOKUPS[name]
        indices = list(_tensors(args[place] if len(args) > place else kwargs.get(keyword or "index")))
        table = [self._trace_of(tensor).origin for tensor in _tensors((args, kwargs))]
        if _Origin.LEARNED in table and any(self._trace_of(one).origin is _Origin.DATA for one in indices):
            self._found.add("has_embeddings")

    def _is_layer(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Return whether a function is a layer other than a product, and note its kind."""
        if _ATTENTION.search(name):
            self._found.add("has_attention")
        elif _RECURRENT.search(name):
            self._found.add("is_recurrent")
        elif _NORM.search(name):
            self._found.add("has_norms")
        elif _CONVOLUTION.search(name):
            kernel = args[1] if len(args) > 1 else kwargs.get("weight")
            if isinstance(kernel, Tensor) and self._trace_of(kernel).origin is not _Origin.FIXED:
                self._found.add("has_convolutions")
        else:
            return name in _LOOKUPS and name.startswith("embedding")
        return True

    def _factors(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[_Trace]:
        """Return the origins of a product's factors; nothing for other functions."""
        if name not in _PRODUCTS | _SUMS_OF_PRODUCTS:
            return []
        tensors = list(_tensors((args, kwargs)))
        if name != "einsum":
            # a summand comes first or last
            tensors = tensors[1:3] if name in _SUMS_OF_PRODUCTS else tensors[:2]
        return [self._trace_of(tensor) for tensor in tensors]

    def _multiplied(self, factors: list[_Trace]) -> frozenset[_Mark]:
        data = [one for one in factors if one.origin is _Origin.DATA]
        if len(data) < 2:
            return _NO_MARKS
        if any(_Mark.SHARES in one.marks for one in data):
            self._found.add("has_attention")
        return frozenset({_Mark.PRODUCT})

    def _used(self, data: list[_Trace], given: list[_Trace]) -> Mapping[int, int]:
        """Return each weight's number of uses in a row, after this layer has used its own."""
        before = _merged(data)
        own = {key: before.get(key, 0) + 1 for one in given if one.origin is _Origin.LEARNED for key in one.uses}
        self._repeats = self._repeats or any(count >= _REPEATS for count in own.values())
        return {**before, **own}

    def _passed(self, name: str, data: list[_Trace], given: list[_Trace]) -> frozenset[_Mark]:
        """Return the marks of the result of a function without weights."""
        marks = frozenset().union(*(one.marks for one in data))
        if name in ("mul", "div", "true_divide", "multiply"):
            is_scaled = len(data) > 1 and any(_Mark.SPREAD in one.marks for one in data)
            is_unit_scaled = _Mark.UNIT in marks and any(one.origin is _Origin.LEARNED for one in given)
            if is_scaled or is_unit_scaled:
                self._found.add("has_norms")
                return _NO_MARKS
        if name in ("softmax", "exp") and _Mark.PRODUCT in marks:
            return frozenset({_Mark.SHARES})
        if name in ("std", "std_mean") or (name in ("sqrt", "rsqrt", "pow") and _Mark.MOMENT in marks):
            return marks | {_Mark.SPREAD}
        if name in ("mean", "var", "var_mean"):
            return marks | {_Mark.MOMENT}
        return marks | {_Mark.UNIT} if name == "normalize" else marks


def _merged(traces: Iterable[_Trace]) -> Mapping[int, int]:
    """Return the longest row of each weight; a single mapping is returned unchanged."""
    found: list[Mapping[int, int]] = []
    for one in traces:
        if one.uses and not any(one.uses is other for other in found):
            found.append(one.uses)
    if len(found) < 2:
        return found[0] if found else {}
    merged = dict(found[0])
    for uses in found[1:]:
        merged |= {key: max(count, merged.get(key, 0)) for key, count in uses.items()}
    return merged


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
