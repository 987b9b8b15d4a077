"""The module's own optimizer in a space: its movable options, and its values as starting points of other branches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from opttune.catalog.info import searched_fields
from opttune.catalog.lookup import find_optimizer
from opttune.catalog.ranges import SearchRange
from opttune.errors import ModelError
from opttune.recipe import OWN, join_names, numbered
from opttune.space.model import LR_FACTOR, Branch, Choice, Field, Fixed, Range, Space

EACH_FROM_BUDGET = 10
"""From this budget on, each of several optimizers has its own factor; below it, one factor moves all."""


@dataclass(frozen=True, slots=True)
class OwnFacts:
    """Facts about a module's own optimizers.

    Attributes:
        words: All of them in words.
        names: The name of each: an attribute of the module, or its number.
        knobs: The knobs that any of them has.
        row: The name of the catalog's row of the same class; empty if there is none, or if there are several
            optimizers.
        values: The module's values of that row's fields: `lr`, `beta1`, `weight_decay`.
        sets_rates: Whether the module's code sets the learning rate in each step, which excludes other schedules.
    """

    words: str
    names: tuple[str, ...] = ("0",)
    knobs: tuple[str, ...] = (LR_FACTOR,)
    row: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    sets_rates: bool = False

    @property
    def count(self) -> int:
        """The number of optimizers."""
        return len(self.names)


def own_branch(facts: OwnFacts, budget: float) -> Branch:
    """Return the branch of `own` for a module: one factor on all rates, or from a larger budget one per optimizer.

    In its default recipe nothing is moved: it is the baseline.

    Args:
        facts: Facts about the module's own optimizers.
        budget: Cost of the search in full trainings.

    Example:
        >>> [name for name, _ in own_branch(OwnFacts("", ("generator", "discriminator")), budget=10).fields]
        ['lr_factor', '1.lr_factor']
    """
    info = find_optimizer(OWN)
    if facts.count > 1:
        if budget < EACH_FROM_BUDGET:
            return Branch(OWN, ((LR_FACTOR, _range(LR_FACTOR)),))
        each = tuple((numbered(number, LR_FACTOR), _range(LR_FACTOR)) for number in range(1, facts.count))
        return Branch(join_names([OWN] * facts.count), ((LR_FACTOR, _range(LR_FACTOR)), *each))
    return Branch(OWN, tuple((name, _range(name)) for name in searched_fields(info) if name in facts.knobs))


def fit_own(space: Space, facts: OwnFacts | None) -> tuple[Space, tuple[str, ...]]:
    """Return a space whose branch `own` moves only options of the module's own optimizer, with notes on the others.

    Args:
        space: The space.
        facts: Facts about the module's own optimizers; None if none of them works.

    Raises:
        ModelError: There is nothing to move, or the space is for another number of optimizers.
    """
    parts = [len(branch.names) for branch in space.optimizers]
    if any(OWN in branch.names for branch in space.optimizers) and facts is None:
        raise ModelError(
            f"the space {space.name} moves the module's own optimizer, and configure_optimizers returns none."
        )
    count = 1 if facts is None else facts.count
    if wrong := [number for number in parts if number not in (1, count)]:
        raise ModelError(f"the space {space.name} is for {wrong[0]} optimizers, and the model has {count}.")
    if facts is None:
        return space, ()
    dropped: list[str] = []

    def fitted(branch: Branch) -> Branch:
        branch = branch.map_fields(_from_unmoved)
        if branch.name != OWN:
            return branch
        kept = tuple((name, each) for name, each in branch.fields if name in facts.knobs)
        dropped.extend(name for name, _ in branch.fields if name not in facts.knobs)
        return replace(branch, fields=kept)

    space = space.map_optimizers(fitted)
    options = ", ".join(name.removesuffix("_factor").removesuffix("_horizon") for name in dropped)
    notes = [f"{facts.words} has no {options} to move: left out."] if dropped else []
    others = [branch.name for branch in space.schedules if not branch.is_own]
    if facts.sets_rates and space.is_own and others:
        space = replace(space, schedules=(Branch(OWN),))
        notes.append(
            f"The module's code sets the learning rate in each step: schedules {', '.join(others)} are left out."
        )
    return space, tuple(notes)


def with_own_values(space: Space, facts: OwnFacts | None) -> tuple[Space, tuple[str, ...]]:
    """Return a space in which the class of the module's own optimizer starts at the module's values.

    A value outside the range is left out, because the first value in a module is often only a placeholder.

    Args:
        space: The space.
        facts: Facts about the module's own optimizers.
    """
    if facts is None or not facts.row:
        return space, ()
    moved: list[str] = []

    def begun(branch: Branch) -> Branch:
        return branch.map_fields(lambda name, each: _begun(each, facts.values.get(name), name, moved))

    space = space.map_optimizers(lambda branch: begun(branch) if branch.name == facts.row else branch)
    return space, ((f"{facts.row} starts at the module's own values: {', '.join(moved)}.",) if moved else ())


def _from_unmoved(name: str, each: Field) -> Field:
    """Let a factor on the module's own values start at 1, unless its file says otherwise."""
    is_factor = name.rpartition(".")[2] in searched_fields(find_optimizer(OWN))
    if is_factor and isinstance(each, Range) and each.prior is None and each.low <= 1 <= each.high:
        return replace(each, prior=1.0)
    return each


def _begun(each: Range | Choice | Fixed, value: float | None, name: str, moved: list[str]) -> Range | Choice | Fixed:
    if value is None or isinstance(each, Fixed) or each.centre == value:
        return each
    if isinstance(each, Range) and each.low <= value <= each.high:
        moved.append(f"{name} {value:g}")
        return replace(each, prior=value)
    if isinstance(each, Choice) and value in each.choices:
        moved.append(f"{name} {value:g}")
        return replace(each, start=each.choices.index(value))
    return each


def _range(name: str) -> Range:
    search = searched_fields(find_optimizer(OWN))[name]
    assert isinstance(search, SearchRange)
    return Range(search.low, search.high, search.scale, prior=search.centre, source=search.source)
