"""Which fields of a space a budget pays for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from opttune.catalog.info import Info, searched_fields
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.space.model import Branch, Choice, Field, Fixed, Range, Scalar, Space
from opttune.space.parse import LR_TIMES_WEIGHT_DECAY
from opttune.yaml_text import inline_yaml

FROM_BUDGET = {LR_TIMES_WEIGHT_DECAY: 10, "gradient_clip_norm": 25, "accumulate_grad_batches": 25, "precision": 25}
"""Field -> least budget, for those that no row of the catalog holds; the others' is `Search.from_budget`."""
OTHERS_FROM_BUDGET = 25
"""Least budget for a field that its row does not say to search."""


@dataclass(frozen=True, slots=True)
class Held:
    """A field that a budget does not pay for.

    Attributes:
        name: Its full name, such as `adamw.weight_decay`.
        value: Where it is held.
        from_budget: Budget, in full trainings, from which on it varies.
    """

    name: str
    value: Scalar
    from_budget: int

    def __str__(self) -> str:
        value = f"{self.value:.4g}" if isinstance(self.value, float) else inline_yaml(self.value)
        return f"{self.name} = {value} (varies from a budget of {self.from_budget} trainings on)"


def for_budget(space: Space, budget: float) -> tuple[Space, tuple[Held, ...]]:
    """Return a space in which only what the budget pays for varies, and what is held.

    By the Deep Learning Tuning Playbook: few trainings find the learning rate (and the optimizer and the
    schedule), from 10 on warmup, weight decay and beta1 are worth it, from 25 on the rest. What is held stays
    at its centre.

    The search calls it for a space that ships with opttune and for `auto`. It is not for a space file of the
    user's own: what a user wrote to vary, varies.

    Args:
        space: What may vary.
        budget: Cost of the search in full trainings.

    Example:
        >>> from opttune.space.parse import load_space
        >>> space, held = for_budget(load_space("adamw"), budget=5)
        >>> [name for name, _ in space.parameters()]
        ['adamw.lr', 'schedule']
        >>> print(held[1])
        adamw.weight_decay = 0.01 (varies from a budget of 10 trainings on)
    """
    varying = set(fields_for_budget(space, budget))
    held = tuple(
        Held(name, _centre(field), least)
        for name, field, least in _fields(space)
        if not isinstance(field, Fixed) and name not in varying
    )
    values = {one.name: Fixed(one.value) for one in held}
    space = replace(
        space,
        optimizers=tuple(_fixed(branch, values) for branch in space.optimizers),
        schedules=tuple(_fixed(branch, values) for branch in space.schedules),
        training=tuple((name, values.get(name, field)) for name, field in space.training),
    )
    return space, held


def fields_for_budget(space: Space, budget: float) -> tuple[str, ...]:
    """Return the full names of the fields that vary with that budget, in the space's order.

    The choices of the optimizer and of the schedule are not among them: they vary with any budget.

    Example:
        >>> from opttune.space.parse import load_space
        >>> fields_for_budget(load_space("lion"), budget=10)
        ('lion.lr', 'lion.beta1', 'lion.weight_decay', 'cosine.warmup_fraction', 'linear.warmup_fraction')
    """
    return tuple(name for name, field, least in _fields(space) if not isinstance(field, Fixed) and budget >= least)


def _fields(space: Space) -> Iterator[tuple[str, Field, int]]:
    """Yield each field's full name, the field and its least budget."""
    rows: list[tuple[Branch, Info]] = [(branch, find_optimizer(branch.name)) for branch in space.optimizers]
    rows += [(branch, find_schedule(branch.name)) for branch in space.schedules]
    for branch, info in rows:
        for name, field in branch.fields:
            yield f"{branch.name}.{name}", field, _least_budget(name, info)
    for name, field in space.training:
        yield name, field, FROM_BUDGET[name]


def _least_budget(name: str, info: Info) -> int:
    search = searched_fields(info).get(name)
    return FROM_BUDGET.get(name, OTHERS_FROM_BUDGET) if search is None else search.from_budget


def _centre(field: Range | Choice) -> Scalar:
    return int(field.centre) if isinstance(field, Range) and field.integer else field.centre


def _fixed(branch: Branch, values: dict[str, Fixed]) -> Branch:
    fields = ((name, values.get(f"{branch.name}.{name}", field)) for name, field in branch.fields)
    return replace(branch, fields=tuple(fields))
