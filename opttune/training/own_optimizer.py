"""The result of a module's own `configure_optimizers`: its optimizers with their groups, and its schedulers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from torch.optim import Optimizer

from opttune.build.load import row_of
from opttune.build.own_knobs import knobs_of, own_values, peak_rates
from opttune.catalog.lookup import find_optimizer
from opttune.recipe import OWN, is_number
from opttune.space.own import OwnFacts
from opttune.trainer.namespaces import NAMESPACES


@dataclass(frozen=True, slots=True)
class OwnOptimizer:
    """One of a module's own optimizers.

    Attributes:
        optimizer: The optimizer.
        name: The attribute of the module that contains all its parameters; else its index.
        schedulers: Its torch schedulers.
    """

    optimizer: Optimizer
    name: str
    schedulers: tuple[Any, ...] = ()

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Its parameter groups."""
        return self.optimizer.param_groups

    @property
    def title(self) -> str:
        """The name for people."""
        return f"optimizer {self.name}" if self.name.isdigit() else self.name

    def __str__(self) -> str:
        return " + ".join([self._with_rates, *(type(scheduler).__name__ for scheduler in self.schedulers)])

    @property
    def _with_rates(self) -> str:
        peaks = peak_rates(self.groups, self.schedulers)
        rates = sorted({float(peak) for peak in peaks if is_number(peak)})
        if not rates or not all(map(is_number, peaks)) or not all(map(isfinite, rates)):
            return type(self.optimizer).__name__
        shown = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g}..{rates[-1]:g}"
        return f"{type(self.optimizer).__name__}(lr={shown})"


@dataclass(frozen=True, slots=True)
class OwnConfiguration:
    """A module's own optimizers and schedulers.

    Attributes:
        optimizers: Its optimizers, in their order; empty if none works.
        schedulers: Its schedulers, in their order, each as a mapping for Lightning.
        problem: Why there is no optimizer; empty if there is one.
    """

    optimizers: tuple[OwnOptimizer, ...] = ()
    schedulers: tuple[dict[str, Any], ...] = ()
    problem: str = ""

    @property
    def words(self) -> str:
        """A description: `SGD(lr=0.1) + StepLR`, or `generator: Adam(lr=0.0002), discriminator: Adam(lr=0.0002)`."""
        if len(self.optimizers) == 1:
            return str(self.optimizers[0])
        return ", ".join(f"{one.title}: {one}" for one in self.optimizers) or self.problem

    @property
    def groups(self) -> list[dict[str, Any]] | None:
        """The parameter groups of all its optimizers; None if none works."""
        return [group for one in self.optimizers for group in one.groups] if self.optimizers else None


def ask_own_optimizers(module: Any, configure: Callable[[], Any]) -> OwnConfiguration:
    """Call a module's own `configure_optimizers` and describe what it returns.

    Args:
        module: The module.
        configure: Its own method, bound.
    """
    # Lightning's default only warns
    if getattr(configure, "__func__", None) in [name.LightningModule.configure_optimizers for name in NAMESPACES]:
        return OwnConfiguration(problem="no optimizer")
    try:
        returned = configure()
        found = list(_optimizers(returned))
    except Exception as err:  # the user's code may raise anything; it is mostly replaced anyway
        problem = f"its own configure_optimizers, which fails ({type(err).__name__}: {err})"
        return OwnConfiguration(problem=problem)
    if not found:
        return OwnConfiguration(problem="no optimizer")
    schedulers = tuple(_schedulers(returned))
    return OwnConfiguration(describe(module, found, schedulers), schedulers)


def own_facts(own: OwnConfiguration) -> OwnFacts | None:
    """Return the facts about a module's own optimizers that a space needs; None if none works."""
    if not own.optimizers:
        return None
    knobs = {knob for one in own.optimizers for knob in knobs_of(one.optimizer)}
    row = row_of(type(own.optimizers[0].optimizer)) if len(own.optimizers) == 1 else None
    return OwnFacts(
        words=own.words,
        names=tuple(one.name for one in own.optimizers),
        knobs=tuple(option.name for option in find_optimizer(OWN).options if option.name in knobs),
        row="" if row is None else row.name,
        values={} if row is None else own_values(own.optimizers[0].groups, row, own.optimizers[0].schedulers),
    )


def describe(
    module: Any, optimizers: Sequence[Optimizer], schedulers: Sequence[Mapping[str, Any]]
) -> tuple[OwnOptimizer, ...]:
    """Return a module's optimizers with their names and torch schedulers."""
    owners = {id(parameter): name.partition(".")[0] for name, parameter in module.named_parameters()}
    names = [
        {owners.get(id(parameter), "") for group in optimizer.param_groups for parameter in group["params"]}
        for optimizer in optimizers
    ]
    single = [next(iter(each)) if len(each) == 1 else "" for each in names]
    return tuple(
        OwnOptimizer(
            optimizer,
            name if name and single.count(name) == 1 else str(number),
            tuple(one["scheduler"] for one in schedulers if getattr(one["scheduler"], "optimizer", None) is optimizer),
        )
        for number, (optimizer, name) in enumerate(zip(optimizers, single, strict=True))
    )


def _optimizers(returned: Any) -> Iterator[Optimizer]:
    """Yield the optimizers in any value that `configure_optimizers` may return, without the schedulers."""
    if isinstance(returned, Optimizer):
        yield returned
    elif isinstance(returned, dict):
        yield from _optimizers(returned.get("optimizer"))
    elif isinstance(returned, list | tuple):
        for item in returned:
            yield from _optimizers(item)


def _schedulers(returned: Any) -> Iterator[dict[str, Any]]:
    """Yield the schedulers, each as a mapping with the monitor that Lightning finds for it."""
    if isinstance(returned, dict):
        if (scheduler := returned.get("lr_scheduler")) is not None:
            monitor = {"monitor": returned["monitor"]} if returned.get("monitor") is not None else {}
            yield monitor | _as_mapping(scheduler)
    elif isinstance(returned, list | tuple) and all(isinstance(item, dict) for item in returned):
        for item in returned:
            yield from _schedulers(item)
    elif isinstance(returned, list | tuple) and len(returned) == 2 and isinstance(returned[0], list):
        second = returned[1]
        for scheduler in second if isinstance(second, list) else [second]:
            yield _as_mapping(scheduler)


def _as_mapping(scheduler: Any) -> dict[str, Any]:
    return dict(scheduler) if isinstance(scheduler, dict) else {"scheduler": scheduler}


def is_overridden(module_class: type, hook: str) -> bool:
    """Return whether a class of modules has its own version of one of Lightning's hooks."""
    return getattr(module_class, hook) not in [getattr(name.LightningModule, hook) for name in NAMESPACES]
