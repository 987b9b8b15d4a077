"""`TrainingJob`: one training to do, of any role."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from opttune.recipe import Recipe


class Role(StrEnum):
    """The role of a training."""

    TRIAL = "trial"
    """A recipe of the search, on the search's seed."""
    BASELINE = "baseline"
    """The module with its own optimizer, on the search's seed."""
    REPLICATE = "replicate"
    """The recipe of a finished trial, on a further seed."""
    CONFIRMATION = "confirmation"
    """A candidate of a verdict, on a seed that the search did not use."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training to do. Two jobs are equal if they train the same thing for the same purpose.

    Attributes:
        recipe: The recipe; None leaves the module its own optimizer.
        seed: Seed of initial weights and data order.
        role: The role of the training.
        trial: Number of the trial, or of the trial with this recipe; None if there is none.
        label: The name of a verdict's candidate.

    Example:
        >>> from opttune.recipe import Part
        >>> job = TrainingJob(Recipe(Part("sgd", {"lr": 0.1})), seed=1, role=Role.REPLICATE, trial=3)
        >>> TrainingJob.from_dict(job.to_dict()) == job
        True
    """

    recipe: Recipe | None
    seed: int
    role: Role = Role.TRIAL
    trial: int | None = None
    label: str = field(default="", compare=False)

    @property
    def is_trial(self) -> bool:
        """Whether it is one of the search's trials; every other training is an auxiliary run."""
        return self.role is Role.TRIAL

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "TrainingJob":
        """Read back the result of `to_dict`."""
        recipe = None if stored["recipe"] is None else Recipe.from_dict(stored["recipe"])
        return cls(recipe, stored["seed"], Role(stored["role"]), stored["trial"], stored["label"])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        recipe = None if self.recipe is None else self.recipe.to_dict()
        return {"role": str(self.role), "recipe": recipe, "seed": self.seed, "trial": self.trial, "label": self.label}
