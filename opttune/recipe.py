"""`Recipe`: the frozen settings of one training run.

A recipe is made from the mapping in a recipe file. It can be compared, hashed, pickled and written back
without loss. The checks here hold for every recipe; `opttune.catalog.check_recipe` checks whether the
optimizer and the schedule take its options.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from opttune.errors import RecipeError, shown
from opttune.recipe_groups import Groups, Rule, is_number, refuse_unknown

__all__ = ["Groups", "Part", "Recipe", "Rule", "Value", "is_number"]

Value = bool | int | float | str | None | tuple[float, ...]
"""What an option of a recipe may hold."""


@dataclass(frozen=True, slots=True, init=False)
class Part(Mapping[str, Value]):
    """A named choice with its options: the optimizer or the schedule of a recipe.

    It is a read-only mapping over its options; the order in which they were given does not matter.

    Args:
        name: Name in the catalog.
        options: Option -> value; lists become tuples.

    Raises:
        RecipeError: An option cannot have that name, or cannot hold that value.

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
            # `name` is the key under which a recipe file holds the part's own name
            if not isinstance(key, str) or key == "name":
                raise RecipeError(f"recipe: {name}: {shown(key)} cannot be an option's name.")
        # lr first, for readers of the file; else by name, so that equal parts compare equal
        keys = sorted(options, key=lambda key: (key != "lr", key))
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

    def replaced(self, **options: Value) -> "Part":
        """Return a copy with some options changed."""
        return Part(self.name, {**dict(self.pairs), **options})

    def to_dict(self) -> dict[str, Any]:
        """Return `{"name": ..., option: value}` with lists for tuples."""
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self.pairs}
        return {"name": self.name, **options}

    def __str__(self) -> str:
        options = ", ".join(f"{key}={_short(value)}" for key, value in self.pairs)
        return f"{self.name}({options})"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of one training run: optimizer, schedule, parameter groups and clipping.

    Attributes:
        optimizer: Name and options of the optimizer; `lr` is the peak learning rate.
        schedule: Name and options of the learning-rate schedule.
        groups: How the parameters are split into groups.
        gradient_clip_norm: Largest allowed norm of all gradients together, > 0; None does not clip.
        accumulate_grad_batches: Batches per optimizer step, >= 1.
        precision: Lightning's precision (`"bf16-mixed"`, say); None leaves the Trainer's.

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

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any], where: str = "recipe") -> "Recipe":
        """Make a recipe from the mapping in a recipe file.

        Args:
            settings: Sections as in a recipe file; `optimizer` is required, the rest has defaults.
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
            "optimizer": self.optimizer.to_dict(),
            "schedule": self.schedule.to_dict(),
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
        flat |= self.groups.flat()
        for name in ("gradient_clip_norm", "accumulate_grad_batches", "precision"):
            flat[name] = getattr(self, name)
        return flat

    def __str__(self) -> str:
        """Return the optimizer, the schedule, and groups that are not the usual ones, in one line."""
        groups = f", groups({self.groups.words})" if self.groups.words else ""
        return f"{self.optimizer}, {self.schedule}{groups}"


def _sections(settings: object) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        raise RecipeError(f"recipe: a recipe is a mapping that starts with `optimizer:`, got {shown(settings)}.")
    refuse_unknown(settings, Recipe.__dataclass_fields__, "recipe")
    if "optimizer" not in settings:
        raise RecipeError("recipe: there is no `optimizer`. Write for example `optimizer: {name: adamw, lr: 3.0e-4}`.")
    sections = dict(settings)
    for name in ("optimizer", "schedule"):
        if name in sections:
            sections[name] = _part(sections[name], f"recipe: {name}")
    if "groups" in sections:
        sections["groups"] = Groups.from_dict(sections["groups"])
    return sections


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
    """Return the plain value of a NumPy float, a string enum or the like, which YAML cannot write."""
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
