"""`StepCosts`: the length of each training, if all trainings take the same time."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from opttune.outcome import Outcome, StopReason, optimizer_steps
from opttune.recipe import Recipe

BASELINE = "baseline"
"""The key of the baseline among measured seconds."""

_NOISE = 1.1
"""A step that takes at most this multiple of the baseline's counts as equal, because two measurements of one optimizer
differ by as much on a busy machine. Chosen by hand."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """The cost of a step of each optimizer, in steps of the baseline.

    A search counts steps of the baseline's time: a full training takes as long as the baseline's, and an optimizer
    whose step takes three times as long does a third of the optimizer steps, with its schedule over these. An optimizer
    with a cheaper step does not exceed the full length. A search with a budget in steps has no costs.

    Attributes:
        costs: Optimizer -> its cost; 1 for all others.

    Example:
        >>> costs = StepCosts.of({"baseline": 0.01, "adamw": 0.0105, "soap": 0.03})
        >>> costs.costs
        {'soap': 3.0}
    """

    costs: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, seconds: Mapping[str, float]) -> "StepCosts":
        """Make the costs from the time of a step of each optimizer; without a baseline, the cheapest one costs 1.

        Args:
            seconds: Optimizer -> seconds per step, with the baseline's under `baseline`.
        """
        least = seconds.get(BASELINE) or min(seconds.values(), default=0.0)
        if least <= 0:
            return cls()
        ratios = {name: round(taken / least, 2) for name, taken in seconds.items() if name != BASELINE}
        return cls({name: ratio for name, ratio in ratios.items() if ratio > _NOISE})

    def share(self, recipe: Recipe | None) -> float:
        """Return the number of a recipe's optimizer steps per counted step."""
        return 1.0 if recipe is None else 1.0 / self.costs.get(recipe.optimizer.name, 1.0)

    def steps(self, recipe: Recipe | None, counted: int) -> int:
        """Return the optimizer steps of a recipe for a number of counted steps."""
        return optimizer_steps(counted, self.share(recipe))

    def sentences(self, full: int) -> list[str]:
        """Return a sentence for each optimizer with fewer steps than the full length."""
        return [
            f"a step of {name} takes {cost:.3g} x the baseline's: in equal time it trains "
            f"{optimizer_steps(full, 1 / cost)} of {full} steps."
            for name, cost in self.costs.items()
        ]

    def counted(self, recipe: Recipe | None, outcome: Outcome, until: int, full: int) -> Outcome:
        """Return the outcome of a training in counted steps.

        Args:
            recipe: The recipe.
            outcome: The outcome in optimizer steps.
            until: The counted step at which the training was to end.
            full: The full length in counted steps.
        """
        share = self.share(recipe)
        if share == 1.0:
            return outcome
        is_whole = outcome.total_steps == self.steps(recipe, full)
        total = full if is_whole else round(outcome.total_steps / share)
        if outcome.reason is StopReason.PAUSED:
            steps = until
        else:
            at_end = is_whole and outcome.steps >= outcome.total_steps
            steps = total if at_end else min(round(outcome.steps / share), max(total, full))
        looked = round(outcome.look_steps / share)
        return replace(outcome, steps=steps, total_steps=total, look_steps=looked, share=share)
