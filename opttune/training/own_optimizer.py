"""The optimizer that a module's own `configure_optimizers` returns: its parameter groups, and a description."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from torch.optim import Optimizer

from opttune.errors import ModelError
from opttune.recipe import is_number
from opttune.trainer.namespaces import NAMESPACES


@dataclass(frozen=True, slots=True)
class OwnOptimizer:
    """A module's own optimizer.

    Attributes:
        words: A description, such as `SGD(lr=0.0001)`.
        groups: Its parameter groups; None where the module has no optimizer that works.
    """

    words: str
    groups: tuple[dict[str, Any], ...] | None


def ask_own_optimizer(configure: Callable[[], Any]) -> OwnOptimizer:
    """Call a module's own `configure_optimizers` and describe the optimizer that it returns.

    Args:
        configure: The module's own method, bound.

    Raises:
        ModelError: It returns several optimizers.
    """
    # Lightning's default only warns
    if getattr(configure, "__func__", None) in [name.LightningModule.configure_optimizers for name in NAMESPACES]:
        return OwnOptimizer("no optimizer", None)
    try:
        found = list(_optimizers(configure()))
    except Exception as err:  # the user's code may raise anything; it is replaced anyway
        return OwnOptimizer(f"its own configure_optimizers, which fails ({type(err).__name__}: {err})", None)
    if not found:
        return OwnOptimizer("no optimizer", None)
    if len(found) > 1:
        names = ", ".join(type(optimizer).__name__ for optimizer in found)
        raise ModelError(
            f"the model trains with {len(found)} optimizers ({names}); opttune tunes models with one. "
            "Return a single optimizer from configure_optimizers, with parameter groups where they differ."
        )
    return OwnOptimizer(_words(found[0]), tuple(found[0].param_groups))


def _optimizers(returned: Any) -> Iterator[Optimizer]:
    """Yield the optimizers in any value that `configure_optimizers` may return, without the schedulers."""
    if isinstance(returned, Optimizer):
        yield returned
    elif isinstance(returned, dict):
        yield from _optimizers(returned.get("optimizer"))
    elif isinstance(returned, list | tuple):
        for item in returned:
            yield from _optimizers(item)


def _words(optimizer: Optimizer) -> str:
    rates = sorted({_rate(group) for group in optimizer.param_groups})
    if not all(map(isfinite, rates)):
        return type(optimizer).__name__
    shown = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g}..{rates[-1]:g}"
    return f"{type(optimizer).__name__}(lr={shown})"


def _rate(group: dict[str, Any]) -> float:
    rate = group.get("initial_lr", group.get("lr"))
    return float(rate) if is_number(rate) else nan


def is_overridden(module_class: type, hook: str) -> bool:
    """Return whether a class of modules has its own version of one of Lightning's hooks."""
    return getattr(module_class, hook) not in [getattr(name.LightningModule, hook) for name in NAMESPACES]
