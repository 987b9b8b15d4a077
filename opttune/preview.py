"""The inspection before a search: the model, the space that fits it, and the plan."""

import time
from dataclasses import replace
from typing import Any

from opttune.build.load import require_classes
from opttune.engines.devices import count_processes, require_devices, sharing_words
from opttune.engines.engine import Engine
from opttune.engines.multi_device import inspect_on_devices
from opttune.errors import ModelError, OpttuneError, SpaceError, UnsuitableOptimizerError
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.runtime.display import expected_time
from opttune.space.fit import with_reach
from opttune.space.group_facts import without_group_fields
from opttune.space.model import SettledSpace
from opttune.space.sample import default_recipe
from opttune.space.settle import settle
from opttune.study.config import SearchConfig
from opttune.study.learn_from import EarlierRuns
from opttune.study.prior_runs import PriorRuns
from opttune.study.step_costs import BASELINE, is_baselines
from opttune.training.attempt import Attempt, NullListener
from opttune.training.inspection import ModelInspection
from opttune.training.pause_check import check_pause
from opttune.training.workload import Workload

INSPECTED_STEPS = 3
"""Steps to train before a plan. They show the metrics, the time of a step, and code that sets the rate itself."""
_LEAST_MEASURED, _MOST_MEASURED = 11, 46
"""Number of trained steps that measure a step, without the first: some optimizers do most of their work at every tenth.
At most a tenth of a longer training."""
_LEAST_ROUNDS, _MOST_ROUNDS, _ENOUGH_SECONDS = 2, 5, 10.0
_POLL_SECONDS = 0.2
_NONE = PriorRuns()


def preview(config: SearchConfig, workload: Workload, prior: PriorRuns = _NONE) -> dict[str, Any]:
    """Return the plan of a search, after the few steps that a search trains to inspect the module.

    Args:
        config: The configuration of the search.
        workload: The user's model and data.
        prior: The runs that the search starts from.

    Returns:
        The space, the budget in steps, and the replaced optimizer.

    Raises:
        OpttuneError: The model cannot be tuned, or the baseline has another length.
    """
    require_devices(config.trainer)
    inspection = inspect_workload(config, workload, steps=INSPECTED_STEPS)
    given = prior.baseline and prior.baseline.of_length(inspection.total_steps)
    config = with_settled_space(config, settle_for(config, inspection, prior.earlier))
    return {
        "study": config.study_name,
        "model": inspection.model_name,
        "parameters": inspection.parameters,
        "replaces": inspection.replaced,
        **({"baseline": f"{given.value:.5g} at the end of {given.source}"} if given else {}),
        "monitor": f"{config.monitor} ({config.mode})",
        **({"warning": config.mode_warning} if config.mode_warning else {}),
        "space": config.space.name,
        "optimizers": [branch.name for branch in config.space.optimizers],
        "schedules": [branch.name for branch in config.space.schedules],
        "why": [*inspection.notes, *config.space_notes, *filter(None, [inspection.not_paused])],
        "varies": [name for name, _ in config.space.parameters()],
        "groups": _groups_of_first_trial(config, workload, inspection),
        "full_length_steps": inspection.total_steps,
        "budget_steps": budget_steps(config, inspection),
        **({"expected_time": time} if (time := expected_time(config, inspection)) else {}),
        "out_dir": str(config.out_dir),
    }


def budget_steps(config: SearchConfig, inspection: ModelInspection) -> int:
    """Return the optimizer steps that the whole search may spend."""
    return int(config.budget * inspection.total_steps)


def settle_for(config: SearchConfig, inspection: ModelInspection, earlier: EarlierRuns = _NONE.earlier) -> SettledSpace:
    """Return the space to search; all of its optimizers are installed.

    Args:
        config: The configuration of the search.
        inspection: The inspection of the model.
        earlier: Earlier trainings, whose best become the priors.

    Raises:
        MissingExtraError: An optimizer needs a missing package; this is raised now, not at its first trial.
    """
    settled = settle(
        config.space,
        config.shipped_space,
        trainer=config.trainer,
        facts=inspection.facts,
        total_steps=inspection.total_steps,
        budget=config.budget,
        earlier=earlier.best(inspection.total_steps, config.mode),
    )
    require_classes(branch.name for branch in settled.space.optimizers)
    space = with_reach(settled.space) if config.shipped_space else settled.space
    return replace(settled, space=space, notes=(*settled.notes, *earlier.notes))


def with_settled_space(config: SearchConfig, settled: SettledSpace) -> SearchConfig:
    """Return the config with a settled space."""
    return replace(config, space=settled.space, space_notes=settled.notes, space_warnings=settled.warnings)


def inspect_workload(config: SearchConfig, workload: Workload, steps: int) -> ModelInspection:
    """Set the model up with the default recipe of the space's first suitable optimizer and train at most a few steps.

    Raises:
        OpttuneError: The model cannot be tuned, or no optimizer of the space can train it.
    """
    last = len(config.space.optimizers) - 1
    for optimizer in range(last + 1):
        # the group fields may have no effect on the model: this inspection decides
        attempt = _attempt(config, default_recipe(without_group_fields(config.space), optimizer))
        try:
            inspection = inspect_on_devices(attempt, workload, steps)
        except UnsuitableOptimizerError:
            if optimizer == last:
                raise
            continue
        own = inspection.facts.own
        if _keeps_several(config, inspection):
            kept = inspect_on_devices(replace(attempt, recipe=Recipe.of_baseline()), workload, 0)
            inspection = replace(inspection, groups=f"of your own optimizers:\n\n{kept.groups}")
        elif inspection.groups:
            inspection = replace(inspection, groups=f"of {attempt.recipe}:\n\n{inspection.groups}")
        if steps and own is not None and _sets_rates(config, attempt, workload, steps):
            inspection = replace(inspection, facts=replace(inspection.facts, own=replace(own, sets_rates=True)))
        inspection = _with_device_notes(config, inspection)
        if not steps or not config.pauses or count_processes(attempt.trainer) > 1:
            return inspection
        check = check_pause(attempt, workload)
        return replace(
            inspection,
            not_paused=check.why_not and f"each trial is trained without pauses: {check.why_not}.",
            start_seconds=check.start_seconds,
        )
    raise SpaceError(f"the space {config.space.name} holds no optimizer.")


def _attempt(config: SearchConfig, recipe: Recipe) -> Attempt:
    return Attempt(
        recipe=recipe,
        monitor=config.monitor,
        seed=config.seed,
        trainer={**config.trainer, **config.length},
        mode=config.mode,
        guard=config.guard,
    )


def _keeps_several(config: SearchConfig, inspection: ModelInspection) -> bool:
    """Return whether the module has several optimizers, which `auto` keeps as they are."""
    own = inspection.facts.own
    return config.shipped_space == "auto" and own is not None and own.count > 1


def _groups_of_first_trial(config: SearchConfig, workload: Workload, inspection: ModelInspection) -> str:
    """Return the table of the first trial's groups; the inspection's recipe had other rates.

    Args:
        config: The configuration of the search, with its settled space.
        workload: The user's model and data.
        inspection: The inspection of the model.
    """
    if not inspection.groups or _keeps_several(config, inspection):
        return inspection.groups
    attempt = _attempt(config, default_recipe(config.space, 0))
    try:
        return f"of {attempt.recipe}:\n\n{inspect_on_devices(attempt, workload, 0).groups}"
    except ModelError:
        # its trial will show why
        return inspection.groups


def measure_steps(config: SearchConfig, engine: Engine, inspection: ModelInspection) -> dict[str, float]:
    """Return the seconds of a step of each optimizer of the space, and of the baseline if it works.

    Each trains its default recipe for some steps, two to five times. The smallest mean counts, which excludes the load
    of other programs on the machine.

    Args:
        config: The configuration of the search, with its settled space.
        engine: Where the search will train: a worker may have fewer threads than this process, or another device.
        inspection: The inspection of the model.
    """
    names = [branch.name for branch in config.space.optimizers]
    recipes = {name: default_recipe(config.space, at) for at, name in enumerate(names) if not is_baselines(name)}
    if inspection.has_own_optimizer:
        recipes = {BASELINE: Recipe.of_baseline(), **recipes}
    steps = min(_MOST_MEASURED, max(_LEAST_MEASURED, inspection.total_steps // 10), inspection.total_steps - 1)
    # one batch to validate on, for schedules that follow the metric
    trainer = {**config.trainer, **config.length, "limit_val_batches": 1}
    measured: dict[str, float] = {}
    began, rounds = time.monotonic(), 0
    while steps > 1 and (
        rounds < _LEAST_ROUNDS or (time.monotonic() < began + _ENOUGH_SECONDS and rounds < _MOST_ROUNDS)
    ):
        rounds += 1
        for name, recipe in recipes.items():
            attempt = Attempt(recipe, config.monitor, config.seed, trainer, mode=config.mode, until_step=steps)
            seconds = _train_alone(engine, attempt).step_seconds
            if seconds is not None:
                measured[name] = min(seconds, measured.get(name, seconds))
    return measured


def _train_alone(engine: Engine, attempt: Attempt) -> Outcome:
    """Train one attempt while nothing else is trained.

    Raises:
        OpttuneError: The model cannot be trained with it.
        KeyboardInterrupt: Ctrl-C.
    """
    engine.submit(0, attempt, NullListener())
    while (done := engine.next_done(_POLL_SECONDS)) is None:
        pass
    if isinstance(done.result, OpttuneError):
        raise done.result
    if done.result.reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    return done.result


def _with_device_notes(config: SearchConfig, inspection: ModelInspection) -> ModelInspection:
    words = sharing_words(config.workers, config.trainer) if config.engine == "local" else ""
    return replace(inspection, notes=(*inspection.notes, words)) if words else inspection


def _sets_rates(config: SearchConfig, attempt: Attempt, workload: Workload, steps: int) -> bool:
    """Return whether the module's code sets the learning rate where another schedule than its own is to follow."""
    others = [branch for branch in config.space.schedules if not branch.is_own]
    if not config.space.is_own or not others or attempt.recipe is None:
        return False
    recipe = replace(attempt.recipe, schedule=Part("constant"))
    try:
        inspect_on_devices(replace(attempt, recipe=recipe), workload, steps)
    except ModelError:
        # with its own schedule it has just trained
        return True
    return False
