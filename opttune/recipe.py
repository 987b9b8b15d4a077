"""`Recipe`: the frozen settings of one training run.

A recipe is made from the mapping in a recipe file. It can be compared, hashed, pickled and written back without loss.
The checks here apply to every recipe; `opttune.catalog.check_recipe` checks whether the optimizer and the schedule
take its options.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from opttune.errors import RecipeError, shown
from opttune.recipe_groups import Groups, Rule, is_number, refuse_unknown

__all__ = [
    "OWN",
    "Groups",
    "Part",
    "Recipe",
    "Rule",
    "Value",
    "is_number",
    "join_names",
    "numbered",
    "part_names",
    "unnumbered",
]

OWN = "own"
"""The name of a module's own optimizer and its own schedule."""
_JOIN = "+"
"""Separates the names of the parts for several optimizers."""
_RATES = ("lr", "lr_factor")

T = TypeVar("T")
Value = bool | int | float | str | None | tuple[float, ...]
"""The allowed types of an option of a recipe."""


def join_names(names: Iterable[str]) -> str:
    """Return the joined name of the parts for several optimizers.

    Example:
        >>> join_names(["own", "adamw"]), part_names("own+adamw"), part_names("adamw")
        ('own+adamw', ('own', 'adamw'), ('adamw',))
    """
    return _JOIN.join(names)


def part_names(name: str) -> tuple[str, ...]:
    """Return the name of each part; one name for a single optimizer."""
    return tuple(name.split(_JOIN))


def numbered(number: int, key: str) -> str:
    """Return the key of an option or a field in one of several parts.

    Example:
        >>> numbered(1, "lr"), unnumbered({"0.lr": 0.1, "1.lr": 0.2}, 1)
        ('1.lr', {'lr': 0.2})
    """
    return f"{number}.{key}"


def unnumbered(options: Mapping[str, T], number: int) -> dict[str, T]:
    """Return the options of one of several parts under their own keys."""
    start = numbered(number, "")
    return {key.removeprefix(start): value for key, value in options.items() if key.startswith(start)}


def _check_joined(name: str, options: Mapping[str, Any]) -> None:
    names = part_names(name)
    numbers = {str(number) for number in range(len(names))}
    if len(names) > 1 and not (all(names) and all(key.partition(".")[0] in numbers for key in options)):
        raise RecipeError(f"recipe: {shown(name)} cannot be a name: {_JOIN} joins the parts of several optimizers.")


@dataclass(frozen=True, slots=True, init=False)
class Part(Mapping[str, Value]):
    """A named choice with its options: the optimizer or the schedule of a recipe.

    It is a read-only mapping of its options. Their order does not matter.

    Args:
        name: Name in the catalog.
        options: Option -> value; lists become tuples.

    Raises:
        RecipeError: The name or the value of an option is invalid.

    Example:
        >>> part = Part("adamw", {"lr": 3e-4, "betas": [0.9, 0.95]})
        >>> part.name, part["lr"], part["betas"]
        ('adamw', 0.0003, (0.9, 0.95))
    """

    name: str
    pairs: tuple[tuple[str, Value], ...]

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        if not isinstance(name, str):
            raise RecipeError(f"recipe: a name must be text, got {shown(name)}.")
        options = options or {}
        for key in options:
            # `name` is the key of the part's own name in a recipe file
            if not isinstance(key, str) or key == "name":
                raise RecipeError(f"recipe: {name}: {shown(key)} cannot be an option's name.")
        _check_joined(name, options)
        # lr first, for readers of the file; the rest by name, so that equal parts compare equal
        keys = sorted(options, key=lambda key: (key not in _RATES, key))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "pairs", tuple((key, _plain(f"{name}.{key}", options[key])) for key in keys))

    def __getitem__(self, option: str) -> Value:
        for key, value in self.pairs:
            if key == option:
                return value
        raise KeyError(option)

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    @classmethod
    def join(cls, parts: Sequence["Part"]) -> "Part":
        """Return the parts for several optimizers as one; each option's name starts with its optimizer's number.

        Example:
            >>> joined = Part.join([Part("own", {"lr_factor": 2.0}), Part("adamw", {"lr": 1e-3})])
            >>> joined.name, list(joined)
            ('own+adamw', ['0.lr_factor', '1.lr'])
            >>> [str(part) for part in joined.split()]
            ['own(lr_factor=2)', 'adamw(lr=0.001)']
        """
        if len(parts) == 1:
            return parts[0]
        options = {numbered(number, key): value for number, part in enumerate(parts) for key, value in part.items()}
        return cls(join_names(part.name for part in parts), options)

    def split(self) -> tuple["Part", ...]:
        """Return the part for each optimizer; a part for one optimizer returns only itself."""
        names = part_names(self.name)
        if len(names) == 1:
            return (self,)
        return tuple(Part(name, unnumbered(self, number)) for number, name in enumerate(names))

    @property
    def rate(self) -> float | None:
        """The learning rate, or the factor on a module's own; None if the part has neither."""
        rate = next((self[name] for name in _RATES if name in self), None)
        return float(rate) if isinstance(rate, int | float) else None

    def replaced(self, **options: Value) -> "Part":
        """Return a copy with some options changed."""
        return Part(self.name, {**dict(self.pairs), **options})

    def to_dict(self) -> dict[str, Any]:
        """Return `{"name": ..., option: value}` with lists for tuples."""
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self.pairs}
        return {"name": self.name, **options}

    def __str__(self) -> str:
        if len(parts := self.split()) > 1:
            return " + ".join(map(str, parts))
        options = ", ".join(f"{key}={_short(value)}" for key, value in self.pairs)
        return f"{self.name}({options})"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of one training run: optimizer, schedule, parameter groups and clipping.

    For a module with several optimizers, a recipe has one part for each, in the order of its `configure_optimizers`
    (`optimizers: [...]` in a file, `Part.join` in Python), or one part that applies to all of them.

    Attributes:
        optimizer: Name and options of the optimizer; `lr` is the peak learning rate. `own` keeps the module's.
        schedule: Name and options of the learning-rate schedule.
        groups: How the parameters are split into groups.
        gradient_clip_norm: Largest allowed norm of all gradients together, > 0; None does not clip.
        accumulate_grad_batches: Batches per optimizer step, >= 1.
        precision: Lightning's precision, for example `"bf16-mixed"`; None leaves the Trainer's.

    Raises:
        RecipeError: A value is of the wrong kind or out of range.

    Example:
        >>> recipe = Recipe(Part("adamw", {"lr": 3e-4}), Part("cosine", {"warmup_fraction": 0.05}))
        >>> Recipe.from_dict(recipe.to_dict()) == recipe
        True
    """

    optimizer: Part
    schedule: Part = Part("constant")
    groups: Groups = field(default_factory=Groups)
    gradient_clip_norm: float | None = None
    accumulate_grad_batches: int = 1
    precision: str | None = None

    def __post_init__(self) -> None:
        for name, kind in (("optimizer", Part), ("schedule", Part), ("groups", Groups)):
            if not isinstance(getattr(self, name), kind):
                raise RecipeError(f"recipe: {name} must be a {kind.__name__}, got {shown(getattr(self, name))}.")
        clip = self.gradient_clip_norm
        if clip is not None and not (is_number(clip) and clip > 0):
            raise RecipeError(f"recipe: gradient_clip_norm must be > 0 or null, got {shown(clip)}.")
        batches = self.accumulate_grad_batches
        if not is_number(batches) or not isinstance(batches, int) or batches < 1:
            raise RecipeError(f"recipe: accumulate_grad_batches must be a whole number >= 1, got {shown(batches)}.")
        precision = self.precision
        if precision is not None and not isinstance(precision, str):
            raise RecipeError(f"recipe: precision must be text such as 'bf16-mixed' or null, got {shown(precision)}.")
        for name in ("gradient_clip_norm", "accumulate_grad_batches", "precision"):
            object.__setattr__(self, name, _exact(getattr(self, name)))
        optimizers, schedules = len(self.optimizer.split()), len(self.schedule.split())
        if schedules not in (1, optimizers):
            raise RecipeError(
                f"recipe: there must be 1 schedule, or {optimizers}, one for each optimizer; got {schedules}."
            )

    @classmethod
    def of_baseline(cls) -> "Recipe":
        """Return the recipe that leaves a module unchanged.

        Example:
            >>> str(Recipe.of_baseline()), Recipe.of_baseline().is_baseline
            ('own(), own()', True)
        """
        return cls(Part(OWN), Part(OWN))

    @property
    def is_baseline(self) -> bool:
        """Whether the recipe leaves a module unchanged: it trains as without opttune."""
        parts = (*self.optimizer.split(), *self.schedule.split())
        is_own = all(part.name == OWN and all(value == 1 for value in part.values()) for part in parts)
        return is_own and self.gradient_clip_norm is None and self.accumulate_grad_batches == 1 and not self.precision

    def for_each(self, count: int) -> tuple["Recipe", ...]:
        """Return the recipe of each of a module's optimizers.

        Args:
            count: How many the module has.

        Raises:
            RecipeError: The recipe is for another number of optimizers.

        Example:
            >>> [str(one) for one in Recipe(Part("sgd", {"lr": 0.1})).for_each(2)]
            ['sgd(lr=0.1), constant()', 'sgd(lr=0.1), constant()']
        """
        optimizers, schedules = self.optimizer.split(), self.schedule.split()
        if len(optimizers) not in (1, count):
            raise RecipeError(f"the recipe is for {len(optimizers)} optimizers, and the model has {count}.")
        optimizers, schedules = (each if len(each) == count else each * count for each in (optimizers, schedules))
        pairs = zip(optimizers, schedules, strict=True)
        return tuple(replace(self, optimizer=optimizer, schedule=schedule) for optimizer, schedule in pairs)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any], where: str = "recipe") -> "Recipe":
        """Make a recipe from the mapping in a recipe file.

        Args:
            settings: Sections as in a recipe file; `optimizer` is required, all others have defaults.
            where: The place that errors name, such as the file.

        Raises:
            RecipeError: A section is unknown or of the wrong kind.
        """
        try:
            return cls(**_sections(settings))
        except RecipeError as err:
            raise RecipeError(where + str(err).removeprefix("recipe")) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping for a recipe file; `from_dict` reads it back without loss."""
        return {
            **_section_of("optimizer", self.optimizer),
            **_section_of("schedule", self.schedule),
            "groups": self.groups.to_dict(),
            "gradient_clip_norm": self.gradient_clip_norm,
            "accumulate_grad_batches": self.accumulate_grad_batches,
            "precision": self.precision,
        }

    def flat(self) -> dict[str, Value]:
        """Return one plain value per field, for tables and MLflow's params.

        `optimizer` and `schedule` are the names of the two parts; a tuple such as `betas` becomes `beta1`, `beta2`.

        Example:
            >>> Recipe(Part("adamw", {"lr": 1e-3, "betas": (0.9, 0.99)})).flat()["beta2"]
            0.99
        """
        flat: dict[str, Value] = {"optimizer": self.optimizer.name}
        flat |= _flat_options(self.optimizer)
        flat["schedule"] = self.schedule.name
        flat |= _flat_options(self.schedule)
        # a module's own optimizer keeps its groups
        flat |= {} if all(part.name == OWN for part in self.optimizer.split()) else self.groups.flat()
        for name in ("gradient_clip_norm", "accumulate_grad_batches", "precision"):
            flat[name] = getattr(self, name)
        return flat

    def __str__(self) -> str:
        """Return the optimizer, the schedule, and the further settings that differ from the defaults, in one line."""
        clip, batches = self.gradient_clip_norm, self.accumulate_grad_batches
        further = [
            f"groups({self.groups.words})" if self.groups.words else "",
            "" if clip is None else f"clip_norm={clip:.3g}",
            "" if batches == 1 else f"accumulate={batches}",
            "" if self.precision is None else f"precision={self.precision}",
        ]
        return ", ".join([str(self.optimizer), str(self.schedule), *filter(None, further)])


def _sections(settings: object) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        raise RecipeError(f"recipe: a recipe is a mapping that starts with `optimizer:`, got {shown(settings)}.")
    refuse_unknown(settings, (*Recipe.__dataclass_fields__, "optimizers", "schedules"), "recipe")
    sections = dict(settings)
    for name in ("optimizer", "schedule"):
        if name in sections:
            sections[name] = _part(sections[name], f"recipe: {name}")
        if f"{name}s" in sections:
            if name in sections:
                raise RecipeError(f"recipe: {name}s and {name} exclude each other; keep one of them.")
            sections[name] = _parts(sections.pop(f"{name}s"), f"recipe: {name}s")
    if "optimizer" not in sections:
        raise RecipeError("recipe: there is no `optimizer`. Write for example `optimizer: {name: adamw, lr: 3.0e-4}`.")
    if "schedule" not in sections:
        # the module's own optimizers keep their schedules
        usual = [Part(OWN if part.name == OWN else "constant") for part in sections["optimizer"].split()]
        sections["schedule"] = usual[0] if len(set(usual)) == 1 else Part.join(usual)
    if "groups" in sections:
        sections["groups"] = Groups.from_dict(sections["groups"])
    return sections


def _section_of(name: str, part: Part) -> dict[str, Any]:
    parts = part.split()
    return {name: part.to_dict()} if len(parts) == 1 else {f"{name}s": [each.to_dict() for each in parts]}


def _parts(sections: object, where: str) -> Part:
    if not isinstance(sections, list | tuple) or not sections:
        raise RecipeError(f"{where} must be a list with an entry for each optimizer, got {shown(sections)}.")
    return Part.join([_part(section, f"{where}: {number}") for number, section in enumerate(sections)])


def _part(section: object, where: str) -> Part:
    if isinstance(section, str):
        return Part(section)
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        raise RecipeError(f"{where} must be a name or {{name: ..., option: value}}, got {shown(section)}.")
    return Part(section["name"], {key: value for key, value in section.items() if key != "name"})


def _plain(option: str, value: object) -> Value:
    if isinstance(value, list | tuple):
        if not all(is_number(item) for item in value):
            raise RecipeError(f"recipe: {option} must be numbers, got {shown(value)}.")
        return tuple(float(item) for item in value)
    if value is None or isinstance(value, bool | str) or is_number(value):
        return _exact(value)
    raise RecipeError(
        f"recipe: {option} must be a finite number, text, true, false, null or a list of numbers, got {shown(value)}."
    )


def _exact(value: bool | int | float | str | None) -> bool | int | float | str | None:
    """Return the plain value of a NumPy float, a string enum or a similar type, which YAML cannot write."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)


def _flat_options(part: Part) -> dict[str, Value]:
    flat: dict[str, Value] = {}
    for option, value in part.items():
        if isinstance(value, tuple):
            flat |= {f"{option.removesuffix('s')}{index}": item for index, item in enumerate(value, 1)}
        else:
            flat[option] = value
    return flat


def _short(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{item:.4g}" for item in value) + ")"
    return str(value)
