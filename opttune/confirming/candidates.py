"""The candidates of a verdict: the best recipes, the baseline, and AdamW with torch's defaults."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from opttune.catalog.check import with_defaults
from opttune.catalog.lookup import find_optimizer
from opttune.recipe import Groups, Part, Recipe
from opttune.study.frozen_study import FrozenStudy
from opttune.tracking.training_log import short_rate

Kind = Literal["trial", "own", "adamw"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the recipes to train on several seeds.

    Attributes:
        kind: `trial` for a recipe of the search, `own` for the module's own optimizer, `adamw` for AdamW's default.
        recipe: The recipe; None leaves the module its own optimizer.
        numbers: The trials with this recipe, the best first; none for the other kinds.
        label: Its name in tables and sentences.
    """

    kind: Kind
    recipe: Recipe | None
    numbers: tuple[int, ...]
    label: str

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Candidate":
        """Read back the result of `to_dict`."""
        recipe = None if stored["recipe"] is None else Recipe.from_dict(stored["recipe"])
        return cls(stored["kind"], recipe, tuple(stored["numbers"]), stored["label"])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        recipe = None if self.recipe is None else self.recipe.to_dict()
        return {"kind": self.kind, "recipe": recipe, "numbers": list(self.numbers), "label": self.label}


def choose_candidates(study: FrozenStudy, top: int) -> list[Candidate]:
    """Return the candidates, the winner of the search first.

    Args:
        study: The search.
        top: How many of its best trials, >= 1; two with the same recipe count as one.
    """
    chosen = [_of_trials(recipe, numbers) for recipe, numbers in _distinct(study)[:top]]
    if study.origin.has_own_optimizer:
        # the returned recipe comes first: the others are measured against it
        is_best = study.best is not None and study.best.is_baseline
        chosen.insert(0 if is_best else len(chosen), Candidate("own", None, (), "your optimizer"))
    default = adamw_default()
    if all(default != candidate.recipe for candidate in chosen):
        chosen.append(Candidate("adamw", default, (), "AdamW's default"))
    return _with_distinct_labels(chosen)


def adamw_default() -> Recipe:
    """Return AdamW with torch's defaults: its own rate and decay, for all parameters alike, without a schedule.

    Example:
        >>> print(adamw_default())
        adamw(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01), constant(), groups(no_decay_norm_bias=False)
    """
    options = with_defaults(Part("adamw"), find_optimizer("adamw"))
    return Recipe(Part("adamw", options), groups=Groups(no_decay_norm_bias=False))


def _distinct(study: FrozenStudy) -> list[tuple[Recipe, list[int]]]:
    """Return the recipes with a value, the best first, each with its trials."""
    found: dict[Recipe, list[int]] = {}
    for record in study.ranked:
        if record.recipe is not None and not record.is_baseline:
            found.setdefault(record.recipe, []).append(record.number)
    return list(found.items())


def _of_trials(recipe: Recipe, numbers: Sequence[int]) -> Candidate:
    return Candidate(
        "trial", recipe, tuple(numbers), f"{recipe.optimizer.name} {short_rate(recipe)}".replace(".0e", "e")
    )


def _with_distinct_labels(candidates: Sequence[Candidate]) -> list[Candidate]:
    labels = [candidate.label for candidate in candidates]
    return [
        replace(candidate, label=f"{candidate.label} (trial {candidate.numbers[0]})")
        if candidate.numbers and labels.count(candidate.label) > 1
        else candidate
        for candidate in candidates
    ]
