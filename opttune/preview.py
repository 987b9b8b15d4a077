"""What a search looks at before it trains: the model, the space that fits it, and what would be done."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opttune.build.load import load_class
from opttune.catalog.lookup import find_optimizer
from opttune.engines.multi_device import inspect_on_devices
from opttune.planning import fix_what_the_trainer_sets
from opttune.space.sample import default_recipe
from opttune.space.settle import SettledSpace, settle_space
from opttune.study.config import SearchConfig
from opttune.study.warm_start import EarlierBest, with_earlier_best
from opttune.training.attempt import Attempt
from opttune.training.inspection import ModelInspection
from opttune.training.workload import Workload


def preview(config: SearchConfig, workload: Workload) -> dict[str, Any]:
    """Say what a search would do, without training anything.

    Args:
        config: What the search is told.
        workload: The user's model and data.

    Returns:
        The space, the budget in steps, and what would be replaced.
    """
    looked = look_at(config, workload, steps=0)
    config = with_settled_space(config, settle(config, looked))
    return {
        "study": config.study_name,
        "model": looked.model_name,
        "parameters": looked.parameters,
        "replaces": looked.replaced,
        "monitor": f"{config.monitor} ({config.mode})",
        "space": config.space.name,
        "optimizers": [branch.name for branch in config.space.optimizers],
        "schedules": [branch.name for branch in config.space.schedules],
        "why": list(config.space_notes),
        "varies": [name for name, _ in config.space.parameters()],
        "groups": looked.groups,
        "full_length_steps": looked.total_steps,
        "budget_steps": budget_steps(config, looked),
        "out_dir": str(config.out_dir),
    }


def budget_steps(config: SearchConfig, looked: ModelInspection) -> int:
    """Return the optimizer steps that the whole search may spend."""
    return int(config.budget * looked.total_steps)


def settle(config: SearchConfig, looked: ModelInspection, earlier: Sequence[EarlierBest] = ()) -> SettledSpace:
    """Return the space to search: one that ships with opttune is fitted to the model, the length and the budget.

    Args:
        config: What the search is told.
        looked: What a look at the model showed.
        earlier: An earlier study's best, which become its priors.
    """
    settled = SettledSpace(config.space)
    if config.shipped_space:
        settled = settle_space(config.shipped_space, looked.facts, looked.total_steps, config.budget)
        settled = replace(settled, space=fix_what_the_trainer_sets(settled.space, config.trainer))
    for branch in settled.space.optimizers:
        # a missing extra is told now, not when its first trial comes
        load_class(find_optimizer(branch.name))
    return with_earlier_best(settled, earlier) if earlier else settled


def with_settled_space(config: SearchConfig, settled: SettledSpace) -> SearchConfig:
    """Return the config with the space that is searched."""
    return replace(config, space=settled.space, space_notes=settled.notes)


def look_at(config: SearchConfig, workload: Workload, steps: int) -> ModelInspection:
    """Set the model up with the space's first default recipe and train at most a few steps."""
    attempt = Attempt(
        recipe=default_recipe(config.space),
        monitor=config.monitor,
        seed=config.seed,
        trainer={**config.trainer, **config.length},
        mode=config.mode,
    )
    return inspect_on_devices(attempt, workload, steps)
