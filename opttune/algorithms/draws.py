"""Random configurations: Optuna parameters drawn from a space, near its priors or uniformly.

Priors are a belief about where the best value lies, as in PriorBand (Mallik et al. 2023,
https://arxiv.org/abs/2306.12370). A draw trusts the prior with some probability and otherwise ignores it. A field's
prior is a normal distribution around one value on the field's scale, truncated to its range.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain, product
from math import inf, log10, prod

import numpy as np

from opttune.space.model import LR_FACTOR, Branch, Choice, Field, Fixed, Range, Scalar, Space
from opttune.space.sample import open_fields

PRIOR_SHARE = 0.75
"""Share of the draws that trust a range's prior; the others are uniform over the range. Like the other shares of the
sampler, it was chosen on the tables for development (`benchmarks/search_bench/tables.py`)."""
PRIOR_WIDTH, PRIOR_DECADES = 0.2, 0.75
"""Standard deviation of a prior as a share of the range on its scale, and its maximum on a log scale in decades.
Chosen by hand."""
_MOST_REDRAWS = 50
"""Maximum number of new draws if a configuration resembles an earlier one. Chosen by hand."""
_RATES_PER_DECADE = 10
"""Steps per decade of the grid on which learning rates count as similar. Within a step, a rate changes the result less
than another seed does. Chosen by hand."""

Parameters = dict[str, Scalar]
Key = frozenset[tuple[str, Scalar]]


class Configuration(Parameters):
    """The final parameters of a trial, with the keys that compare them."""

    @cached_property
    def key(self) -> Key:
        """A key that equal configurations share."""
        return frozenset(self.items())

    @cached_property
    def coarse_key(self) -> Key:
        """A key that similar configurations share."""
        return coarse_key(self)


class SeenConfigurations:
    """The configurations of earlier trials.

    Args:
        configurations: The parameters of these trials.
    """

    def __init__(self, configurations: Iterable[Parameters]) -> None:
        self._configurations = [one if isinstance(one, Configuration) else Configuration(one) for one in configurations]
        self._coarse_keys = {one.coarse_key for one in self._configurations}

    @cached_property
    def _keys(self) -> set[Key]:
        # few searches need them
        return {one.key for one in self._configurations}

    def contains(self, configuration: Parameters) -> bool:
        """Return whether a trial had exactly these parameters."""
        return configuration_key(configuration) in self._keys

    def contains_similar(self, configuration: Parameters) -> bool:
        """Return whether a trial had these parameters, up to a few percent of the learning rate."""
        return coarse_key(configuration) in self._coarse_keys


def draw_new(
    space: Space, seen: SeenConfigurations, draw: Callable[[], Parameters], rng: np.random.Generator
) -> Parameters:
    """Draw a configuration that does not resemble, or at least does not equal, an earlier one.

    Args:
        space: The search space.
        seen: The configurations of earlier trials.
        draw: A function that draws a configuration.
        rng: The random generator for draws from the whole space.

    Returns:
        The configuration. It equals an earlier one only if the space has no other.
    """
    configuration = draw()
    for redraw in range(_MOST_REDRAWS):
        if not (seen.contains_similar if redraw < _MOST_REDRAWS // 2 else seen.contains)(configuration):
            return configuration
        configuration = draw()
    # a narrow range has few values of three digits but many exact ones; a space of choices may still have a rare one
    rest = chain([_draw(space, rng, PRIOR_SHARE, exact=True)], _enumerate_configurations(space))
    return next((other for other in rest if not seen.contains(other)), configuration)


def configuration_key(configuration: Mapping[str, Scalar]) -> Key:
    """Return a key that equal configurations share."""
    return configuration.key if isinstance(configuration, Configuration) else frozenset(configuration.items())


def coarse_key(configuration: Parameters) -> Key:
    """Return a key that configurations share if their learning rates differ by at most a few percent."""
    return frozenset((name, _coarse(value) if _is_rate(name) else value) for name, value in configuration.items())


def _is_rate(name: str) -> bool:
    return name.rpartition(".")[2] in ("lr", LR_FACTOR)


def _coarse(rate: Scalar) -> Scalar:
    return round(_RATES_PER_DECADE * log10(rate)) if isinstance(rate, float) and rate > 0 else rate


def draw_from_prior(space: Space, rng: np.random.Generator, prior_share: float) -> Parameters:
    """Draw an optimizer and a schedule uniformly, and their fields from their priors.

    Args:
        space: The search space.
        rng: The random generator.
        prior_share: Share of the fields that trust their prior; the others are uniform over their range.
    """
    return _draw(space, rng, prior_share)


def draw_from_branches(
    space: Space, optimizer: Branch, schedule: Branch, rng: np.random.Generator, prior_share: float, exact: bool = False
) -> Parameters:
    """Draw the fields of a given optimizer and schedule.

    Args:
        space: The search space.
        optimizer: The optimizer's branch of the space.
        schedule: The schedule's branch of the space.
        rng: The random generator.
        prior_share: Share of the fields that trust their prior; the others are uniform over their range.
        exact: Whether values stay unrounded.
    """
    fields = open_fields(space, optimizer, schedule)
    drawn = {
        field.optuna_name(name): field.to_optuna(draw_field(field, rng, prior_share, exact)) for name, field in fields
    }
    return _branch_names(space, optimizer, schedule) | drawn


def _draw(space: Space, rng: np.random.Generator, prior_share: float, exact: bool = False) -> Parameters:
    optimizer = space.optimizers[rng.integers(len(space.optimizers))]
    schedules = space.schedules_of(optimizer)
    schedule = schedules[rng.integers(len(schedules))]
    return draw_from_branches(space, optimizer, schedule, rng, prior_share, exact)


def _branch_names(space: Space, optimizer: Branch, schedule: Branch) -> Parameters:
    """Return the parameters that name the branches, each only if the space offers several."""
    names: Parameters = {"optimizer": optimizer.name} if len(space.optimizers) > 1 else {}
    return names | ({"schedule": schedule.name} if len(space.schedules_of(optimizer)) > 1 else {})


def _pairs(space: Space) -> Iterator[tuple[Branch, Branch]]:
    """Yield each optimizer with each of its schedules."""
    return ((optimizer, schedule) for optimizer in space.optimizers for schedule in space.schedules_of(optimizer))


def count_configurations(space: Space) -> float:
    """Return the number of configurations in a space; infinity if a real number varies.

    Example:
        >>> from opttune.space.parse import parse_space
        >>> count_configurations(parse_space("optimizer: {sgd: {lr: {choices: [0.1, 0.2]}, nesterov: false}}", "mine"))
        2.0
    """
    fields = [[field for _, field in open_fields(space, optimizer, schedule)] for optimizer, schedule in _pairs(space)]
    if not all(map(_is_countable, chain(*fields))):
        return inf
    return float(sum(prod(len(_values(field)) for field in branch) for branch in fields))


def _is_countable(field: Range | Choice) -> bool:
    return isinstance(field, Choice) or field.integer


def _enumerate_configurations(space: Space) -> Iterator[Parameters]:
    """Yield every configuration of the branches without a range of real numbers, in order."""
    for optimizer, schedule in _pairs(space):
        fields = open_fields(space, optimizer, schedule)
        if all(_is_countable(field) for _, field in fields):
            for values in product(*(_values(field) for _, field in fields)):
                chosen = zip(fields, values, strict=True)
                pairs = {field.optuna_name(name): field.to_optuna(value) for (name, field), value in chosen}
                yield _branch_names(space, optimizer, schedule) | pairs


def _values(field: Range | Choice) -> tuple[Scalar, ...] | range:
    return field.choices if isinstance(field, Choice) else range(int(field.low), int(field.high) + 1)


def draw_field(field: Field, rng: np.random.Generator, prior_share: float = PRIOR_SHARE, exact: bool = False) -> Scalar:
    """Draw the value of a field: a choice uniformly, a range from its prior.

    Args:
        field: The field.
        rng: The random generator.
        prior_share: Probability of trusting the prior of a range.
        exact: Whether the value stays unrounded.
    """
    match field:
        case Fixed():
            return field.value
        case Choice():
            return field.choices[rng.integers(len(field.choices))]
        case Range():
            value = field.at(_draw_place(field, rng, prior_share))
            return value if exact else field.rounded(value)


def prior_width(field: Range) -> float:
    """Return the standard deviation of a range's prior as a share of the range on its scale."""
    if field.scale != "log":
        return PRIOR_WIDTH
    return min(PRIOR_WIDTH, PRIOR_DECADES / log10(field.high / field.low))


def _draw_place(field: Range, rng: np.random.Generator, prior_share: float) -> float:
    if field.prior is None or rng.random() > prior_share:
        return float(rng.random())
    centre = field.place(field.prior)
    while not 0 <= (place := rng.normal(centre, prior_width(field))) <= 1:
        pass
    return float(place)
