"""The space that a search was asked for -> the one that it searches."""

from dataclasses import dataclass

from opttune.space.auto import choose_space
from opttune.space.budget import for_budget
from opttune.space.facts import ModelFacts
from opttune.space.length import for_length
from opttune.space.model import Space
from opttune.space.parse import load_space


@dataclass(frozen=True, slots=True)
class SettledSpace:
    """What a search varies.

    Attributes:
        space: The space.
        notes: What was chosen or held and why, one sentence each; none for a space of the user's own.
    """

    space: Space
    notes: tuple[str, ...] = ()


def settle_space(name: str, facts: ModelFacts, total_steps: int, budget: float) -> SettledSpace:
    """Fit a space that ships with opttune to a model, a length and a budget.

    `auto` is chosen for the model. Of a space that was named, optimizers start where such a length wants them
    to, and only what the budget pays for varies. A space of the user's own is not for this: what a user wrote
    to vary, varies.

    Args:
        name: `auto`, or the name of a space that ships with opttune.
        facts: What is known of the model.
        total_steps: Optimizer steps of one training.
        budget: Cost of the search in full trainings.

    Example:
        >>> settled = settle_space("adamw", ModelFacts(parameters=1000), total_steps=1000, budget=5)
        >>> [name for name, _ in settled.space.parameters()]
        ['adamw.lr', 'schedule']
    """
    if name == "auto":
        chosen = choose_space(facts, total_steps, budget)
        return SettledSpace(chosen.space, chosen.reasons)
    space, held = for_budget(for_length(load_space(name), total_steps), budget)
    notes = (f"held for a budget of {budget:g}: {'; '.join(map(str, held))}",) if held else ()
    return SettledSpace(space, notes)
