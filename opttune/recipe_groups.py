"""`Groups` and `Rule`: how a recipe splits a module's parameters into groups."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, TypeGuard

from opttune.errors import RecipeError, one_of, shown

RULE_FIELDS = {"lr_ratio": "lr_mult", "weight_decay_ratio": "weight_decay_mult", "as_matrix": "as_matrix"}
"""Variable field of a rule in a space -> the attribute of the rule with its value."""
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Rule:
    r"""Factors for the parameters with matching names.

    Attributes:
        match: Regular expression, searched anywhere in a parameter's name (`^backbone\.` starts with it).
        lr_mult: Factor of the learning rate, >= 0; a file may call it `lr_ratio`, as spaces do.
        weight_decay_mult: Factor of the weight decay, >= 0; or `weight_decay_ratio`.
        as_matrix: Whether an optimizer for matrices only (Muon) trains them; None decides by the kind of layer.

    Raises:
        RecipeError: The expression is invalid, or a factor is out of range.
    """

    match: str
    lr_mult: float = 1.0
    weight_decay_mult: float = 1.0
    as_matrix: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.match, str) or not self.match:
            raise RecipeError(f"recipe: groups.rules: match must be a regular expression, got {shown(self.match)}.")
        try:
            re.compile(self.match)
        except re.error as err:
            raise RecipeError(
                f"recipe: groups.rules: match {self.match!r} is not a regular expression: {err}."
            ) from None
        for name in ("lr_mult", "weight_decay_mult"):
            _check_number(f"rules: {name}", getattr(self, name), low=0.0)
            object.__setattr__(self, name, float(getattr(self, name)))
        role = self.as_matrix
        if role is not None and not isinstance(role, bool):
            raise RecipeError(f"recipe: groups.rules: as_matrix must be true, false or null, got {shown(role)}.")

    def matches(self, name: str) -> bool:
        """Return whether the rule applies to a parameter of that name, if no earlier rule does."""
        return re.search(self.match, name) is not None

    @classmethod
    def from_dict(cls, section: object) -> "Rule":
        """Make a rule from its mapping in a recipe file.

        Raises:
            RecipeError: A key is unknown, `match` is missing, or a value is wrong.
        """
        if not isinstance(section, Mapping) or "match" not in section:
            form = "{match: regex, lr_mult: x, weight_decay_mult: y}"
            raise RecipeError(f"recipe: groups.rules: a rule is {form}, got {shown(section)}.")
        names = {name: name for name in cls.__dataclass_fields__} | RULE_FIELDS
        refuse_unknown(section, names, "recipe: groups.rules")
        for name, attribute in RULE_FIELDS.items():
            if name != attribute and {name, attribute} <= section.keys():
                raise RecipeError(f"recipe: groups.rules: {name} and {attribute} are the same factor; keep one.")
        return cls(**{names[key]: value for key, value in section.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the rule's mapping for a recipe file."""
        factors = {"lr_mult": self.lr_mult, "weight_decay_mult": self.weight_decay_mult}
        role = {} if self.as_matrix is None else {"as_matrix": self.as_matrix}
        return {"match": self.match, **factors, **role}

    def __str__(self) -> str:
        extra = "" if self.as_matrix is None else f", as_matrix {str(self.as_matrix).lower()}"
        return f"{self.match}: lr x {self.lr_mult:g}, weight decay x {self.weight_decay_mult:g}{extra}"


@dataclass(frozen=True, slots=True)
class Groups:
    """How the parameters are split into groups.

    Attributes:
        no_decay_norm_bias: Whether norms, biases and other one-dimensional parameters get no weight decay.
        no_decay_embeddings: Whether embeddings get no weight decay either.
        layer_decay: Factor in (0, 1] from each layer's learning rate to the rate of the layer below. The last layer has
            the full rate. None gives all layers one rate.
        rules: Factors for parameters by name; the first matching rule applies.
        lora_plus_ratio: Learning rate of LoRA's B matrices as a multiple of the other rates (LoRA+), > 0; None gives
            all one rate.

    Raises:
        RecipeError: A value is of the wrong kind or out of range.

    Example:
        >>> groups = Groups.from_dict({"layer_decay": 0.75, "rules": [{"match": "^head", "lr_mult": 10}]})
        >>> Groups.from_dict(groups.to_dict()) == groups
        True
    """

    no_decay_norm_bias: bool = True
    no_decay_embeddings: bool = False
    layer_decay: float | None = None
    rules: tuple[Rule, ...] = ()
    lora_plus_ratio: float | None = None

    def __post_init__(self) -> None:
        for name in ("no_decay_norm_bias", "no_decay_embeddings"):
            if not isinstance(getattr(self, name), bool):
                raise RecipeError(f"recipe: groups.{name} must be true or false, got {shown(getattr(self, name))}.")
        for name, high in (("layer_decay", 1.0), ("lora_plus_ratio", None)):
            value = getattr(self, name)
            if value is not None:
                _check_number(name, value, low=0.0, above=True, high=high)
                object.__setattr__(self, name, float(value))
        if not isinstance(self.rules, tuple) or not all(isinstance(rule, Rule) for rule in self.rules):
            raise RecipeError(f"recipe: groups.rules must be a list of rules, got {shown(self.rules)}.")

    @classmethod
    def from_dict(cls, section: object) -> "Groups":
        """Make groups from the groups section of a recipe file.

        Raises:
            RecipeError: A key is unknown or a value is wrong.
        """
        if not isinstance(section, Mapping):
            raise RecipeError(f"recipe: groups must be a mapping, got {shown(section)}.")
        refuse_unknown(section, cls.__dataclass_fields__, "recipe: groups")
        rest = dict(section)
        rules = rest.pop("rules", ())
        if not isinstance(rules, list | tuple):
            raise RecipeError(f"recipe: groups.rules must be a list of rules, got {shown(rules)}.")
        return cls(rules=tuple(rule if isinstance(rule, Rule) else Rule.from_dict(rule) for rule in rules), **rest)

    def to_dict(self) -> dict[str, Any]:
        """Return the groups section of a recipe file."""
        return {
            "no_decay_norm_bias": self.no_decay_norm_bias,
            "no_decay_embeddings": self.no_decay_embeddings,
            "layer_decay": self.layer_decay,
            "rules": [rule.to_dict() for rule in self.rules],
            "lora_plus_ratio": self.lora_plus_ratio,
        }

    def flat(self) -> dict[str, bool | float | str | None]:
        """Return one plain value per field, as in tables; the rules become one text, and one column for each factor.

        Example:
            >>> flat = Groups(rules=(Rule("^head", lr_mult=10),)).flat()
            >>> flat["rules"], flat["lr_ratio_head"]
            ('^head: lr x 10, weight decay x 1', 10.0)
        """
        factors = {
            name: getattr(self.rules[index], attribute)
            for name, (index, attribute) in self.rule_fields.items()
            if attribute != "as_matrix"
        }
        return {**self.to_dict(), "rules": "; ".join(map(str, self.rules)) or None, **factors}

    @property
    def rule_fields(self) -> dict[str, tuple[int, str]]:
        r"""Field of a rule, as named in tables and spaces -> the number of the rule, from 0, and its attribute.

        A name ends with the words of the regular expression.

        Example:
            >>> list(Groups(rules=(Rule(r"^backbone\."), Rule("head|tail"))).rule_fields)[::3]
            ['lr_ratio_backbone', 'lr_ratio_head_tail']
        """
        found: dict[str, tuple[int, str]] = {}
        for index, words in enumerate(_rule_words(self.rules)):
            found |= {f"{field}_{words}": (index, attribute) for field, attribute in RULE_FIELDS.items()}
        return found

    def with_fields(self, values: Mapping[str, Any]) -> "Groups":
        """Return a copy with other values of some fields, which may be `rule_fields`.

        Example:
            >>> Groups(rules=(Rule("^head"),)).with_fields({"lr_ratio_head": 10, "layer_decay": 0.9}).words
            'layer_decay=0.9, ^head: lr x 10, weight decay x 1'
        """
        if not values:
            return self
        rules, places = list(self.rules), self.rule_fields
        for name in values.keys() & places.keys():
            index, attribute = places[name]
            rules[index] = replace(rules[index], **{attribute: values[name]})
        own = {name: value for name, value in values.items() if name not in places}
        return replace(self, rules=tuple(rules), **own)

    @property
    def scales_layers(self) -> bool:
        """Whether the layers have different rates: a `layer_decay` of 1 gives all of them one."""
        return self.layer_decay not in (None, 1.0)

    @property
    def scales_lora_b(self) -> bool:
        """Whether LoRA's B matrices have a different rate."""
        return self.lora_plus_ratio not in (None, 1.0)

    @property
    def words(self) -> str:
        """The differences from the defaults, on one line; empty if there are none."""
        parts = [
            *([] if self.no_decay_norm_bias else ["no_decay_norm_bias=False"]),
            *(["no_decay_embeddings=True"] if self.no_decay_embeddings else []),
            *([f"layer_decay={self.layer_decay:.3g}"] if self.scales_layers else []),
            *([f"lora_plus_ratio={self.lora_plus_ratio:.3g}"] if self.scales_lora_b else []),
            *map(str, self.rules),
        ]
        return ", ".join(parts)


def _rule_words(rules: Iterable[Rule]) -> Iterable[str]:
    """Yield for each rule the words of its expression, made unique; MLflow allows them in a name."""
    seen: set[str] = set()
    for rule in rules:
        # an escaped character is a class of characters or a punctuation mark, not a word
        plain = re.sub(r"\\.", " ", rule.match)
        words = "_".join(re.findall(r"[A-Za-z0-9]+", plain))[:_LONGEST_NAME] or "rule"
        name, count = words, 2
        while name in seen:
            name, count = f"{words}_{count}", count + 1
        seen.add(name)
        yield name


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether every part of opttune can store a value as a number: finite, within 64 bits, not a bool.

    Example:
        >>> is_number(3e-4), is_number(True), is_number(float("inf")), is_number(10**400)
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 if isinstance(value, int) else isfinite(value)


def _check_number(name: str, value: object, low: float, above: bool = False, high: float | None = None) -> None:
    if is_number(value) and (value > low if above else value >= low) and (high is None or value <= high):
        return
    words = f"{'>' if above else '>='} {low:g}" + (f" and <= {high:g}" if high is not None else "")
    raise RecipeError(f"recipe: groups.{name} must be {words}, got {shown(value)}.")


def refuse_unknown(section: Mapping[Any, Any], allowed: Iterable[str], where: str) -> None:
    """Refuse a mapping with an unknown key, and name the nearest allowed one."""
    for key in section:
        if key not in allowed:
            hint = one_of(allowed, key if isinstance(key, str) else "")
            raise RecipeError(f"{where}: unknown key {shown(key)}. {hint}")
