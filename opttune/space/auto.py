"""`auto`: choose a space for a module, a length and a budget, and say why."""

from collections.abc import Iterator
from dataclasses import dataclass

from opttune.catalog.lookup import find_optimizer
from opttune.space.auto_plans import MUON_FIRST_FROM, MUON_FIRST_TO, WIDE_MUON, Pick, Plan, in_order, plan_for
from opttune.space.budget import Held, for_budget
from opttune.space.facts import ModelFacts
from opttune.space.length import for_length, with_room
from opttune.space.model import Branch, Choice, Field, Fixed, Range, Space
from opttune.space.parse import load_space

OPTIMIZERS_BELOW = ((5, 1), (10, 2), (25, 3))
"""Budget -> how many optimizers at most are searched below it: each costs trainings of its own."""
SCHEDULES_BELOW = ((5, 1), (10, 2))
"""Budget -> how many schedules at most are searched below it."""
_CLIP = "gradient_clip_norm"


@dataclass(frozen=True, slots=True)
class AutoSpace:
    """A chosen space.

    Attributes:
        space: What may vary, with priors for the length and fields for the budget.
        reasons: What was chosen and why, one sentence each.
    """

    space: Space
    reasons: tuple[str, ...]


def choose_space(facts: ModelFacts, total_steps: int, budget: float) -> AutoSpace:
    """Choose optimizers, schedules and ranges for a module.

    Every branch is one of a space that ships with opttune, so that ranges and their sources have one home;
    `for_length` and `for_budget` are applied to it already.

    Args:
        facts: What the module is made of.
        total_steps: Optimizer steps of one full training.
        budget: Cost of the search in full trainings.

    Example:
        >>> chosen = choose_space(ModelFacts(50_000, has_hidden_matrices=True), total_steps=300, budget=8)
        >>> [branch.name for branch in chosen.space.optimizers]
        ['muon', 'adamw']
        >>> print(chosen.reasons[0])
        The module is a network of 50,000 trained parameters without convolutions, attention or recurrence.
    """
    plan = plan_for(facts, total_steps)
    picks = in_order(plan, _picks(plan, facts, budget), total_steps)
    home = load_space(plan.home)
    schedules = home.schedules[: _at_most(SCHEDULES_BELOW, budget, len(home.schedules))]
    chosen = Space(
        name="auto",
        optimizers=tuple(_branch(pick) for pick in picks),
        schedules=schedules,
        training=_training(home, facts),
        groups=home.groups,
        description=f"Chosen for {plan.words}",
    )
    chosen = with_room(chosen, total_steps) if plan.is_from_scratch else chosen
    moved = for_length(chosen, total_steps)
    space, held = for_budget(moved, budget)
    reasons = (
        f"The module is {plan.words}.",
        *_why_optimizers(picks, len(_suitable(plan, facts)), moved, budget),
        _why_schedules(schedules, home, budget),
        *_why_length(chosen, moved, total_steps),
        *_why_clipping(home, chosen),
        *_why_held(held, budget),
        *_beware(plan),
    )
    return AutoSpace(space, reasons)


def _picks(plan: Plan, facts: ModelFacts, budget: float) -> tuple[Pick, ...]:
    fit = _suitable(plan, facts)
    return fit[: _at_most(OPTIMIZERS_BELOW, budget, len(fit))]


def _suitable(plan: Plan, facts: ModelFacts) -> tuple[Pick, ...]:
    return tuple(
        pick for pick in plan.picks if facts.has_hidden_matrices or find_optimizer(pick.optimizer).matrices_only is None
    )


def _at_most(below: tuple[tuple[int, int], ...], budget: float, most: int) -> int:
    return min([count for limit, count in below if budget < limit] + [most])


def _branch(pick: Pick) -> Branch:
    return next(branch for branch in load_space(pick.space).optimizers if branch.name == pick.optimizer)


def _training(home: Space, facts: ModelFacts) -> tuple[tuple[str, Field], ...]:
    if facts.has_norms or facts.parameters == 0:
        return home.training
    return tuple((name, _never_none(field) if name == _CLIP else field) for name, field in home.training)


def _never_none(field: Field) -> Field:
    """Return a field without the choice of null."""
    if not isinstance(field, Choice) or None not in field.choices:
        return field
    choices = tuple(choice for choice in field.choices if choice is not None)
    return Fixed(choices[0]) if len(choices) == 1 else Choice(choices, source=field.source)


def _why_optimizers(picks: tuple[Pick, ...], suitable: int, space: Space, budget: float) -> Iterator[str]:
    for pick, branch in zip(picks, space.optimizers, strict=True):
        lr = branch.get("lr")
        rates = f", lr {lr.low:g} to {lr.high:g} around {lr.centre:g}" if isinstance(lr, Range) else ""
        yield f"Optimizer {pick.optimizer} (ranges of {pick.space!r}{rates}): {pick.why}."
    if picks[0] is WIDE_MUON:
        yield f"Muon is tried first: of {MUON_FIRST_FROM} to {MUON_FIRST_TO:,} steps its default is mostly the best."
    if len(picks) < suitable:
        yield f"A budget of {budget:g} trainings pays for {len(picks)} of the {suitable} optimizers that suit."


def _why_schedules(schedules: tuple[Branch, ...], home: Space, budget: float) -> str:
    names = ", ".join(branch.name for branch in schedules)
    if len(schedules) < len(home.schedules):
        return f"Schedules: {names}, the first of space {home.name!r}, as many as a budget of {budget:g} compares."
    return f"Schedules: {names}, as in space {home.name!r}."


def _why_length(before: Space, after: Space, total_steps: int) -> Iterator[str]:
    moved = [
        (name, f"{old.name} from {was.centre:g} to {now.centre:g}")
        for old, new in zip(before.optimizers, after.optimizers, strict=True)
        for (name, was), (_, now) in zip(old.fields, new.fields, strict=True)
        if was.centre != now.centre
    ]
    if rates := [words for name, words in moved if name == "lr"]:
        yield f"Learning rates start higher, as {total_steps:,} steps are few: {', '.join(rates)}."
    if others := [f"{name} of {words}" for name, words in moved if name != "lr"]:
        yield f"For the same reason other fields start elsewhere: {', '.join(others)}."


def _why_clipping(home: Space, space: Space) -> Iterator[str]:
    if home.training != space.training:
        yield "Gradients are always clipped: without norms one bad batch can throw the weights far off."


def _why_held(held: tuple[Held, ...], budget: float) -> Iterator[str]:
    if held:
        names = dict.fromkeys(one.name.rpartition(".")[2] for one in held)
        yield f"A budget of {budget:g} trainings is too small to vary {', '.join(names)}: they stay at their centres."


def _beware(plan: Plan) -> Iterator[str]:
    if plan.beware:
        yield plan.beware
