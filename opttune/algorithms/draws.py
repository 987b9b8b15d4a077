"""Draw Optuna parameters from a space, around its priors or anywhere in it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain, product
from math import floor, inf, log10, prod

import numpy as np
import optuna

from opttune.recipe import Recipe
from opttune.space.model import Branch, Choice, Field, Fixed, Range, Scalar, Space
from opttune.space.sample import default_parameters, open_fields, parameter, sample_recipe

PRIOR_SHARE = 0.75
"""Share of the draws that trust a range's prior; the others take the whole range evenly."""
PRIOR_WIDTH, PRIOR_DECADES = 0.2, 0.75
"""Standard deviation of those draws, as a share of the range on its scale; on a log scale at most so many decades."""
_MOST_REDRAWS = 50
_RATES_A_DECADE = 10
"""Learning rates that are nearer to each other than a step of this grid are tried once, all else equal."""

Parameters = dict[str, Scalar]


def first_recipe(space: Space) -> Recipe:
    """Return the default recipe of the space's first optimizer."""
    return sample_recipe(space, optuna.trial.FixedTrial(default_parameters(space, 0)))


class Plan(Parameters):
    """The parameters of a trial, which change no more; what they are compared by is made once."""

    @cached_property
    def key(self) -> frozenset[tuple[str, Scalar]]:
        """What two plans of the same parameters have in common."""
        return frozenset(self.items())

    @cached_property
    def rough_key(self) -> frozenset[tuple[str, Scalar]]:
        """What `rough_key` returns."""
        return rough_key(self)


class Tried:
    """What trials have been tried.

    Args:
        plans: Their parameters.
    """

    def __init__(self, plans: Iterable[Parameters]) -> None:
        self._plans = [plan if isinstance(plan, Plan) else Plan(plan) for plan in plans]
        self._near = {plan.rough_key for plan in self._plans}

    @cached_property
    def _same(self) -> set[frozenset[tuple[str, Scalar]]]:
        # few searches come to ask for it
        return {plan.key for plan in self._plans}

    def holds(self, plan: Parameters) -> bool:
        """Return whether a trial had just these parameters."""
        return plan_key(plan) in self._same

    def holds_like(self, plan: Parameters) -> bool:
        """Return whether a trial had these parameters, or others that differ in the learning rate by a few percent."""
        return rough_key(plan) in self._near


def draw_new(space: Space, tried: Tried, draw: Callable[[], Parameters], rng: np.random.Generator) -> Parameters:
    """Draw parameters that are unlike those of the trials before; where there are none, at least not the same.

    Args:
        space: What may vary.
        tried: The trials before.
        draw: Draws some.
        rng: Where chance comes from.
    """
    plan = draw()
    for redraw in range(_MOST_REDRAWS):
        if not (tried.holds_like if redraw < _MOST_REDRAWS // 2 else tried.holds)(plan):
            return plan
        plan = draw()
    # a narrow range has few values of three digits, but more; a space of choices may have a rare one left
    rest = chain([_draw(space, rng, PRIOR_SHARE, exact=True)], _countable(space))
    return next((other for other in rest if not tried.holds(other)), plan)


def rough_key(plan: Parameters) -> frozenset[tuple[str, Scalar]]:
    """Return what two plans have in common that differ in the learning rate by a few percent at most."""
    return frozenset((name, _rough(value) if name.endswith(".lr") else value) for name, value in plan.items())


def _rough(rate: Scalar) -> Scalar:
    return round(_RATES_A_DECADE * log10(rate)) if isinstance(rate, float) and rate > 0 else rate


def plan_key(plan: Mapping[str, Scalar]) -> frozenset[tuple[str, Scalar]]:
    """Return what two plans of the same parameters have in common."""
    return plan.key if isinstance(plan, Plan) else frozenset(plan.items())


def draw_from_prior(space: Space, rng: np.random.Generator, prior_share: float) -> Parameters:
    """Draw an optimizer and a schedule evenly, and their fields from their priors.

    Args:
        space: What may vary.
        rng: Where chance comes from.
        prior_share: Share of the fields that trust their prior; the others are drawn from their whole range.
    """
    return _draw(space, rng, prior_share)


def draw_from_branches(
    space: Space, optimizer: Branch, schedule: Branch, rng: np.random.Generator, prior_share: float, exact: bool = False
) -> Parameters:
    """Draw the fields of an optimizer and a schedule that are chosen already."""
    plan: Parameters = {}
    for kind, branches, branch in (("optimizer", space.optimizers, optimizer), ("schedule", space.schedules, schedule)):
        if len(branches) > 1:
            plan[kind] = branch.name
    fields = open_fields(space, optimizer, schedule)
    return plan | dict(parameter(name, field, draw_field(field, rng, prior_share, exact)) for name, field in fields)


def _draw(space: Space, rng: np.random.Generator, prior_share: float, exact: bool = False) -> Parameters:
    optimizer = space.optimizers[rng.integers(len(space.optimizers))]
    schedule = space.schedules[rng.integers(len(space.schedules))]
    return draw_from_branches(space, optimizer, schedule, rng, prior_share, exact)


def count_plans(space: Space) -> float:
    """Return how many recipes a space holds; infinity where a real number varies.

    Example:
        >>> from opttune.space.parse import parse_space
        >>> count_plans(parse_space("optimizer: {sgd: {lr: {choices: [0.1, 0.2]}, nesterov: false}}", "mine"))
        2.0
    """
    fields = [
        [field for _, field in open_fields(space, optimizer, schedule)]
        for optimizer, schedule in product(space.optimizers, space.schedules)
    ]
    if not all(map(_is_countable, chain(*fields))):
        return inf
    return float(sum(prod(len(_values(field)) for field in branch) for branch in fields))


def _is_countable(field: Range | Choice) -> bool:
    return isinstance(field, Choice) or field.integer


def _countable(space: Space) -> Iterator[Parameters]:
    """Yield every plan of the branches that hold no range of real numbers, in their order."""
    for optimizer, schedule in product(space.optimizers, space.schedules):
        names = {"optimizer": optimizer.name} if len(space.optimizers) > 1 else {}
        names |= {"schedule": schedule.name} if len(space.schedules) > 1 else {}
        fields = open_fields(space, optimizer, schedule)
        if all(_is_countable(field) for _, field in fields):
            for values in product(*(_values(field) for _, field in fields)):
                chosen = zip(fields, values, strict=True)
                yield {**names, **dict(parameter(name, field, value) for (name, field), value in chosen)}


def _values(field: Range | Choice) -> tuple[Scalar, ...] | range:
    return field.choices if isinstance(field, Choice) else range(int(field.low), int(field.high) + 1)


def draw_field(field: Field, rng: np.random.Generator, prior_share: float = PRIOR_SHARE, exact: bool = False) -> Scalar:
    """Draw a field's value: a choice evenly, a range from its prior, rounded unless it shall be exact."""
    match field:
        case Fixed():
            return field.value
        case Choice():
            return field.choices[rng.integers(len(field.choices))]
        case Range():
            value = field.at(_draw_place(field, rng, prior_share))
            return value if exact else rounded(field, value)


def prior_width(field: Range) -> float:
    """Return the standard deviation of draws around a range's prior, as a share of the range on its scale."""
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


def rounded(field: Range, value: float) -> float:
    """Return a value of a range with three digits that matter: recipes are read by people."""
    if field.integer:
        return value
    span = field.high - field.low
    near_one = field.scale == "log_of_one_minus"
    value = 1 - _three_digits(1 - value, span) if near_one else _three_digits(value, span)
    return min(field.high, max(field.low, value))


def _three_digits(value: float, span: float) -> float:
    # in a narrow range, such as 1000 to 1001, the digits that matter come later
    least = min(abs(value) or span, span)
    return round(value, 2 - floor(log10(least)))
