"""`Space`: the fields that may vary, as a tree of frozen values.

A space has one branch for each optimizer and each schedule. The fields of a branch are sampled only if the branch was
chosen. A field is a `Range`, a `Choice` or `Fixed`; nothing is guessed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import floor, inf, isfinite, log10
from typing import Any, get_args

from opttune.catalog.ranges import SCALES, ScaleName
from opttune.catalog.training import GROUP_OPTIONS
from opttune.errors import SpaceError, one_of, shown
from opttune.recipe import OWN, Groups, is_number, part_names, unnumbered
from opttune.recipe_groups import RULE_FIELDS

LR_FACTOR = "lr_factor"
"""The knob on the rates of a module's own optimizer; with several optimizers also the field that moves all of them."""

Scalar = bool | int | float | str | None
RACED_FROM_STEPS = 1_000
"""From this length on, trainings are long: a short look costs only a small share of one, so the search looks at all
optimizers before it trains one (`opttune.algorithms.successive_halving`)."""
GROUPS = "groups"
"""Fields of the parameter groups bear it in their full names, as those of a branch bear the branch's."""


class FieldError(SpaceError):
    """A range or a choice is invalid; the code that reads it from a file adds the place."""


@dataclass(frozen=True, slots=True)
class Range:
    """All numbers from `low` to `high`.

    For Optuna, a range on the scale `log_of_one_minus` is the distance to 1: `adamw.beta2` is the parameter
    `adamw.one_minus_beta2`, on a log scale, so any sampler searches it evenly. `optuna_name`, `optuna_bounds`,
    `to_optuna` and `from_optuna` convert between the two.

    Attributes:
        low: Least value.
        high: Largest value, > low.
        scale: The scale of the search: `linear`; `log` (learning rates); `log_of_one_minus` (decay rates near 1: 0.9,
            0.99 and 0.999 are equally far apart).
        integer: Whether only whole numbers count.
        prior: The value where an expert would start; None for the middle of the scale.
        source: The source of the range.
        reach: The least and the largest value of a search beyond the ends of the range, if the best value is at an
            end or beyond; None stops it there.

    Raises:
        FieldError: The range is empty, or does not fit its scale.

    Example:
        >>> lr = Range(1e-4, 1e-2, "log")
        >>> round(lr.at(0.5), 6), round(lr.place(1e-3), 6)
        (0.001, 0.5)
        >>> beta2 = Range(0.9, 0.999, "log_of_one_minus")
        >>> beta2.optuna_name("adamw.beta2"), beta2.to_optuna(0.75), beta2.from_optuna(0.25)
        ('adamw.one_minus_beta2', 0.25, 0.75)
    """

    low: float
    high: float
    scale: ScaleName = "linear"
    integer: bool = False
    prior: float | None = None
    source: str = ""
    reach: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.scale not in get_args(ScaleName):
            raise FieldError(f"scale must be one of {', '.join(get_args(ScaleName))}, got {shown(self.scale)}.")
        if not (is_number(self.low) and is_number(self.high) and isfinite(self.high - self.low)):
            raise FieldError(f"low and high must be finite numbers, got {shown(self.low)} and {shown(self.high)}.")
        if self.low >= self.high:
            raise FieldError(f"low must be below high, got low {self.low!r} and high {self.high!r}.")
        if self.scale == "log" and self.low <= 0:
            raise FieldError(f"low must be > 0 because log is true, got {self.low!r}.")
        if self.scale == "log_of_one_minus" and self.high >= 1:
            raise FieldError(f"high must be < 1 because log_of_one_minus is true, got {self.high!r}.")
        forward = SCALES[self.scale].forward
        if forward(self.low) >= forward(self.high):
            raise FieldError(f"low and high are too close together, got {self.low!r} and {self.high!r}.")
        if self.prior is not None and not (is_number(self.prior) and self.low <= self.prior <= self.high):
            raise FieldError(
                f"prior must lie in the range, from {self.low!r} to {self.high!r}, got {shown(self.prior)}."
            )
        self._check_reach()
        if self.integer:
            self._check_whole()

    def _check_reach(self) -> None:
        if self.reach is not None and not (0 < self.reach[0] <= self.low and self.high <= self.reach[1] < inf):
            raise FieldError(f"reach must enclose the range {self.low!r} to {self.high!r}, got {self.reach!r}.")
        if self.reach is not None and (self.scale != "log" or self.integer):
            raise FieldError("reach is only for numbers on a log scale, such as learning rates.")

    def _check_whole(self) -> None:
        if self.scale == "log_of_one_minus":
            raise FieldError("whole numbers cannot be searched on the scale log_of_one_minus.")
        for name in ("low", "high", "prior"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or not is_number(int(value))):
                raise FieldError(f"{name} must be a whole number, got {value!r}.")

    @property
    def centre(self) -> float:
        """The prior, or the middle of the scale."""
        return self.at(0.5) if self.prior is None else self.prior

    def place(self, value: float) -> float:
        """Return the position of a value on the scale: 0 at `low`, 1 at `high`."""
        return SCALES[self.scale].place(value, self.low, self.high)

    def at(self, place: float) -> float:
        """Return the value at a position in [0, 1] on the scale."""
        value = SCALES[self.scale].at(min(1.0, max(0.0, place)), self.low, self.high)
        return self.clip(float(round(value)) if self.integer else value)

    def clip(self, value: float) -> float:
        """Return the nearest value in the range."""
        return min(self.high, max(self.low, value))

    def rounded(self, value: float) -> float:
        """Return a value of the range with three significant digits, for readable recipes.

        On the scale `log_of_one_minus` these are digits of the distance to 1.

        Example:
            >>> Range(1e-5, 1e-1, "log").rounded(0.0012345), Range(0.5, 0.9999, "log_of_one_minus").rounded(0.9987654)
            (0.00123, 0.99877)
        """
        if self.integer:
            return value
        span = self.high - self.low
        if self.reach is not None and not self.low <= value <= self.high:
            return min(self.reach[1], max(self.reach[0], _three_digits(value, span)))
        if self.is_encoded:
            return self.clip(1 - _three_digits(1 - value, span))
        return self.clip(_three_digits(value, span))

    @property
    def is_encoded(self) -> bool:
        """Whether Optuna samples the distance to 1 instead of the value."""
        return self.scale == "log_of_one_minus"

    @property
    def is_log_in_optuna(self) -> bool:
        """Whether Optuna samples on a log scale."""
        return self.scale != "linear"

    @property
    def optuna_bounds(self) -> tuple[float, float]:
        """The ends of the range in Optuna, the lower first."""
        return (1 - self.high, 1 - self.low) if self.is_encoded else self.reach or (self.low, self.high)

    def optuna_name(self, name: str) -> str:
        """Return the name in Optuna of a field with this range: `b.x` or `b.one_minus_x`."""
        if not self.is_encoded:
            return name
        branch, dot, last = name.rpartition(".")
        return f"{branch}{dot}one_minus_{last}"

    def to_optuna(self, value: Scalar) -> Scalar:
        """Return what Optuna holds for a value."""
        if self.is_encoded:
            return 1 - float(value or 0)
        return int(value or 0) if self.integer else value

    def from_optuna(self, stored: Scalar) -> float:
        """Return the value for Optuna's stored number; rounding can move it past an end by the last digit."""
        number = float(stored or 0)
        return 1 - number if self.is_encoded else number

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that a space file holds."""
        low, high = (int(self.low), int(self.high)) if self.integer else (self.low, self.high)
        settings: dict[str, Any] = {"low": low, "high": high}
        if self.scale != "linear":
            settings[self.scale] = True
        reach = None if self.reach is None else list(self.reach)
        return settings | _given(prior=self.prior, source=self.source, reach=reach)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values.

    Attributes:
        choices: The values, at least one, without repetition.
        start: The index of the value to start from.
        source: The source of the choices.

    Raises:
        FieldError: There is no choice, a choice is not a plain value, or one is repeated.
    """

    choices: tuple[Scalar, ...]
    start: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        if not self.choices:
            raise FieldError("choices must have at least one value, got [].")
        for choice in self.choices:
            _check_scalar(choice)
        # 1, 1.0 and true are the same value to Python and to Optuna, which would store one and return the other
        if len(set(self.choices)) < len(self.choices):
            raise FieldError(f"choices must not repeat a value, got {shown(list(self.choices))}.")
        if not 0 <= self.start < len(self.choices):
            raise FieldError(f"start must be from 0 to {len(self.choices) - 1}, got {self.start!r}.")

    @property
    def centre(self) -> Scalar:
        """The value to start from."""
        return self.choices[self.start]

    def optuna_name(self, name: str) -> str:
        """Return the name in Optuna of a field with these choices: its own."""
        return name

    def to_optuna(self, value: Scalar) -> Scalar:
        """Return Optuna's form of a value: the value itself."""
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that a space file holds."""
        prior = {"prior": self.centre} if self.start else {}
        return {"choices": list(self.choices), **prior, **_given(source=self.source)}


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value that does not vary.

    Raises:
        FieldError: It is not a plain value.
    """

    value: Scalar

    def __post_init__(self) -> None:
        _check_scalar(self.value)

    @property
    def centre(self) -> Scalar:
        """The value."""
        return self.value

    def to_dict(self) -> Scalar:
        """Return the form for a space file: the value itself."""
        return self.value


Field = Range | Choice | Fixed


@dataclass(frozen=True, slots=True)
class Branch:
    """An optimizer or a schedule with its fields.

    A branch for several optimizers has their numbers in the names of its fields (`own+adamw`: `0.lr_factor`, `1.lr`).

    Attributes:
        name: Its name in the catalog.
        fields: Name and field, in the order of the file.
    """

    name: str
    fields: tuple[tuple[str, Field], ...] = ()

    def get(self, name: str) -> Field | None:
        """Return the field of that name, or None."""
        return dict(self.fields).get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each of its parts: one, or one for each of several optimizers."""
        return part_names(self.name)

    @property
    def is_own(self) -> bool:
        """Whether it is the module's own optimizer, or all of several optimizers are."""
        return all(name == OWN for name in self.names)

    @property
    def rate_name(self) -> str:
        """The field of the learning rate: `lr`, or a factor on existing rates."""
        return LR_FACTOR if self.get(LR_FACTOR) is not None else "lr"

    @property
    def rate(self) -> Field | None:
        """The field of the learning rate; None if there is none."""
        return self.get(self.rate_name)

    def with_rate(self, field: Field) -> "Branch":
        """Return a copy with another field instead of `rate`."""
        return self.with_field(self.rate_name, field)

    def with_field(self, name: str, field: Field) -> "Branch":
        """Return a copy with another field of that name."""
        return self.map_fields(lambda one, old: field if one == name else old)

    def map_fields(self, change: Callable[[str, Field], Field]) -> "Branch":
        """Return a copy with `change(name, field)` applied to each field."""
        return replace(self, fields=tuple((name, change(name, field)) for name, field in self.fields))

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping below the name in a space file."""
        return {name: field.to_dict() for name, field in self.fields}


@dataclass(frozen=True, slots=True)
class Space:
    """The space of a search: all fields that may vary.

    Attributes:
        name: Its name, in study names and messages.
        optimizers: One branch for each optimizer, at least one.
        schedules: One branch for each schedule, at least one.
        training: Fields of the recipe outside optimizer and schedule, such as `gradient_clip_norm`.
        groups: The fixed part of the parameter groups.
        group_fields: The varying fields of the groups, by the names of `Groups.flat`: `layer_decay`,
            `lr_ratio_backbone`.
        description: The purpose of the space.
    """

    name: str
    optimizers: tuple[Branch, ...]
    schedules: tuple[Branch, ...] = (Branch("constant"),)
    training: tuple[tuple[str, Field], ...] = ()
    groups: Groups = field(default_factory=Groups)
    description: str = ""
    group_fields: tuple[tuple[str, Range | Choice], ...] = ()

    def __post_init__(self) -> None:
        if not self.optimizers or not self.schedules:
            raise SpaceError(f"space {self.name}: there must be at least one optimizer and one schedule.")
        self._refuse_twice("an optimizer", (branch.name for branch in self.optimizers))
        self._refuse_twice("a schedule", (branch.name for branch in self.schedules))
        self._refuse_twice("a field", (name for name, _ in self.training))
        self._refuse_twice("a field of groups", (name for name, _ in self.group_fields))
        known = (*(option.name for option in GROUP_OPTIONS), *self.groups.rule_fields)
        for name, _ in self.group_fields:
            if name not in known:
                raise SpaceError(f"space {self.name}: groups have no field {name!r}. {one_of(known, name)}")
        for branch in (*self.optimizers, *self.schedules):
            self._refuse_twice(f"a field of {branch.name}", (name for name, _ in branch.fields))

    def _refuse_twice(self, what: str, names: Iterable[str]) -> None:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise SpaceError(f"space {self.name}: {name!r} is given twice as {what}.")
            seen.add(name)

    @property
    def is_own(self) -> bool:
        """Whether every optimizer is the module's own."""
        return all(branch.is_own for branch in self.optimizers)

    def schedules_of(self, optimizer: Branch) -> tuple[Branch, ...]:
        """Return the schedules to choose from; beside other optimizers, the module's own keeps its own schedule."""
        return (Branch(OWN),) if optimizer.is_own and not self.is_own else self.schedules

    def training_of(self, optimizer: Branch) -> tuple[tuple[str, Field], ...]:
        """Return the fields outside optimizer and schedule; beside other optimizers, the module's own has none."""
        return () if optimizer.is_own and not self.is_own else self.training

    def parameters(self) -> Iterator[tuple[str, Range | Choice]]:
        """Yield every varying field with its full name: `optimizer`, `adamw.lr`, `cosine.warmup_fraction`."""
        for kind, branches in (("optimizer", self.optimizers), ("schedule", self.schedules)):
            if len(branches) > 1:
                yield kind, Choice(tuple(branch.name for branch in branches))
            for branch in branches:
                yield from ((f"{branch.name}.{n}", f) for n, f in branch.fields if not isinstance(f, Fixed))
        yield from ((n, f) for n, f in self.training if not isinstance(f, Fixed))
        yield from ((f"{GROUPS}.{name}", field) for name, field in self.group_fields)

    def map_optimizers(self, change: Callable[[Branch], Branch]) -> "Space":
        """Return a copy with `change(branch)` applied to each optimizer's branch."""
        return replace(self, optimizers=tuple(map(change, self.optimizers)))

    def map_fields(self, change: Callable[[str, Field], Field]) -> "Space":
        """Return a copy with `change(full_name, field)` applied to each field, including fixed ones."""

        def in_branch(branch: Branch) -> Branch:
            return branch.map_fields(lambda name, field: change(f"{branch.name}.{name}", field))

        of_groups = {name: change(f"{GROUPS}.{name}", field) for name, field in self.group_fields}
        held = {name: field.value for name, field in of_groups.items() if isinstance(field, Fixed)}
        return replace(
            self,
            optimizers=tuple(map(in_branch, self.optimizers)),
            schedules=tuple(map(in_branch, self.schedules)),
            training=tuple((name, change(name, field)) for name, field in self.training),
            groups=self.groups.with_fields(held),
            group_fields=tuple((name, field) for name, field in of_groups.items() if not isinstance(field, Fixed)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping for a space file; parsing it gives the same space."""
        return {
            **_given(description=self.description),
            **_section("optimizer", self.optimizers),
            **_section("schedule", self.schedules),
            **{name: field.to_dict() for name, field in self.training},
            "groups": self._groups_to_dict(),
        }

    def _groups_to_dict(self) -> dict[str, Any]:
        """Return the groups with their varying fields; a varying factor of a rule has its name in spaces."""
        section, places = self.groups.to_dict(), self.groups.rule_fields
        for name, varying in self.group_fields:
            if name not in places:
                section[name] = varying.to_dict()
                continue
            index, attribute = places[name]
            rule = section["rules"][index]
            rule.pop(attribute, None)
            rule[next(key for key, held in RULE_FIELDS.items() if held == attribute)] = varying.to_dict()
        return section


def _section(kind: str, branches: tuple[Branch, ...]) -> dict[str, Any]:
    names = branches[0].names
    if len(names) == 1:
        return {kind: {branch.name: branch.to_dict() for branch in branches}}
    whole = branches[0].to_dict()
    parts = [{name: unnumbered(whole, number)} for number, name in enumerate(names)]
    return {f"{kind}s": parts, **{key: value for key, value in whole.items() if key == LR_FACTOR}}


@dataclass(frozen=True, slots=True)
class SettledSpace:
    """The settled space of a search.

    Attributes:
        space: The space.
        notes: The choices and their reasons, one sentence each; none for a user's own space.
        warnings: Those of the notes that users must see: a value or a recipe of theirs which the space changes or
            lacks, and what may be a mistake about the module.
    """

    space: Space
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _check_scalar(value: object) -> None:
    if not (value is None or isinstance(value, bool | str) or is_number(value)):
        raise FieldError(f"a value must be a finite number, text, true, false or null, got {shown(value)}.")


def _three_digits(value: float, span: float) -> float:
    # in a narrow range, such as 1000 to 1001, the significant digits come later
    least = min(abs(value) or span, span)
    return round(value, 2 - floor(log10(least)))


def _given(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None and value != ""}
