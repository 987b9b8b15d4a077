"""What a search looks at before it trains: the model, the space that fits it, and what would be done."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opttune.build.load import load_class
from opttune.catalog.lookup import find_optimizer
from opttune.engines.several import survey_there
from opttune.planning import fix_what_the_trainer_sets
from opttune.searching.plan import SearchPlan
from opttune.searching.prior import first_recipe
from opttune.searching.warm_start import EarlierBest, with_earlier_best
from opttune.space.settle import SettledSpace, settle_space
from opttune.training.attempt import Attempt
from opttune.training.survey import Survey
from opttune.training.workload import Workload


def preview(plan: SearchPlan, workload: Workload) -> dict[str, Any]:
    """Say what a search would do, without training anything.

    Args:
        plan: What the search is told.
        workload: The user's model and data.

    Returns:
        The space, the budget in steps, and what would be replaced.
    """
    looked = look_at(plan, workload, steps=0)
    plan = with_settled_space(plan, settle(plan, looked))
    return {
        "study": plan.study_name,
        "model": looked.model_name,
        "parameters": looked.parameters,
        "replaces": looked.replaced,
        "monitor": f"{plan.monitor} ({plan.mode})",
        "space": plan.space.name,
        "optimizers": [branch.name for branch in plan.space.optimizers],
        "schedules": [branch.name for branch in plan.space.schedules],
        "why": list(plan.space_notes),
        "varies": [name for name, _ in plan.space.parameters()],
        "groups": looked.groups,
        "full_length_steps": looked.total_steps,
        "budget_steps": budget_steps(plan, looked),
        "out_dir": str(plan.out_dir),
    }


def budget_steps(plan: SearchPlan, looked: Survey) -> int:
    """Return the optimizer steps that the whole search may spend."""
    return int(plan.budget * looked.total_steps)


def settle(plan: SearchPlan, looked: Survey, earlier: Sequence[EarlierBest] = ()) -> SettledSpace:
    """Return the space to search: one that ships with opttune is fitted to the model, the length and the budget.

    Args:
        plan: What the search is told.
        looked: What a look at the model showed.
        earlier: An earlier study's best, which become its priors.
    """
    settled = SettledSpace(plan.space)
    if plan.shipped_space:
        settled = settle_space(plan.shipped_space, looked.facts, looked.total_steps, plan.budget)
        settled = replace(settled, space=fix_what_the_trainer_sets(settled.space, plan.trainer))
    for branch in settled.space.optimizers:
        # a missing extra is told now, not when its first trial comes
        load_class(find_optimizer(branch.name))
    return with_earlier_best(settled, earlier) if earlier else settled


def with_settled_space(plan: SearchPlan, settled: SettledSpace) -> SearchPlan:
    """Return the plan with the space that is searched."""
    return replace(plan, space=settled.space, space_notes=settled.notes)


def look_at(plan: SearchPlan, workload: Workload, steps: int) -> Survey:
    """Set the model up with the space's first default recipe and train at most a few steps."""
    attempt = Attempt(
        recipe=first_recipe(plan.space),
        monitor=plan.monitor,
        seed=plan.seed,
        trainer={**plan.trainer, **plan.length},
        mode=plan.mode,
    )
    return survey_there(attempt, workload, steps)
