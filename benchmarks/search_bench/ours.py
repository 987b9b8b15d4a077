"""opttune's own search on a table: the real loop, an in-memory study, no MLflow."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optuna.storages import InMemoryStorage

from opttune.algorithms.proposal import SamplerSettings
from opttune.algorithms.rungs import SuccessiveHalving, halving_for, is_raced
from opttune.engines.inline import InlineEngine
from opttune.guard.rules import Guard
from opttune.integration.sampler import OpttuneSampler
from opttune.runtime.loop import TrainingLoop
from opttune.runtime.policy import SearchPolicy
from opttune.runtime.progress import ProgressReporter
from opttune.runtime.signals import DeferredInterrupts
from opttune.space.auto import ModelFacts
from opttune.space.model import Space
from opttune.storages.open_storage import quiet_optuna
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.selection import Reevaluation
from opttune.training.inspection import ModelInspection
from search_bench.table_engine import Meter, NoTracking, TableEngine
from search_bench.tables import Table, with_lr_priors
from search_bench.taskset import NearestUntried, TaskSetTable

OURS: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "ours_plus": {"shift": 1.5},
    "ours_minus": {"shift": -1.5},
    "ours:no_prior": {"prior": False, "sampler": {"mixture": SamplerSettings(uses_prior=False)}},
    "ours:no_guard": {"config": {"guard": None}},
    "ours:no_pause": {"config": {"halving": SuccessiveHalving(shares=(), kept=(), kept_of_all=())}},
    "ours:own_optimizer": {"config": {"halving": SuccessiveHalving(kept_of_all=(1.0, 1.0))}},
    "ours:no_line": {
        "halving": {"line_search": False},
        "sampler": {"mixture": SamplerSettings(line_search=False)},
    },
    "ours:no_second_seeds": {"config": {"reevaluation": Reevaluation(most_candidates=0)}},
    "ours:no_model": {"sampler": {"mixture": SamplerSettings(model_share=0.0)}},
    "ours:no_learning": {"sampler": {"mixture": SamplerSettings(model_share=0.0, mutation_share=0.0)}},
    "ours_plus:no_learning": {
        "shift": 1.5,
        "sampler": {"mixture": SamplerSettings(model_share=0.0, mutation_share=0.0)},
    },
    "ours_minus:no_learning": {
        "shift": -1.5,
        "sampler": {"mixture": SamplerSettings(model_share=0.0, mutation_share=0.0)},
    },
}
"""Method -> settings of `replay_ours`: the search as it ships, with wrong priors, and with a part left out. The parts
of a race are left out by `search_bench.ablations`."""


def replay_ours(
    table: Table,
    budget: float,
    seed: int,
    *,
    shift: float = 0.0,
    prior: bool = True,
    halving: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    sampler: Mapping[str, Any] | None = None,
) -> Meter:
    """Search a table with opttune.

    Args:
        table: What is searched.
        budget: Cost in full trainings.
        seed: Of the search.
        shift: By how many decades the prior of each learning rate is wrong.
        prior: Whether learning rates have a prior at all.
        halving: Fields of the table's `SuccessiveHalving` to change, for ablations.
        config: Fields of the `SearchConfig` to change, for ablations.
        sampler: Arguments of `OpttuneSampler` beside the space and the seed, for ablations.
    """
    space = with_lr_priors(table.space, shift if prior else None)
    meter = Meter(table)
    with TemporaryDirectory(prefix="opttune-replay-") as folder, quiet_optuna():
        settings = _config(space, table, budget, seed, Path(folder))
        rungs = replace(settings.halving_for(table.steps), **(halving or {}))
        settings = replace(settings, **{"halving": rungs, **(config or {})})
        store = StudyStore(settings.study_name, InMemoryStorage(), settings.spec)
        store.study.sampler = _sampler(table, settings, seed, (sampler or {}).get("mixture", SamplerSettings()))
        with DeferredInterrupts() as interrupts:
            search = TrainingLoop(
                SearchPolicy(settings, _inspection(table)),
                store,
                InlineEngine(TableEngine(meter)),
                NoTracking(),  # type: ignore[arg-type]
                ProgressReporter(),
                interrupts,
            )
            search.run()
            search.close()
    return meter


def _sampler(table: Table, settings: SearchConfig, seed: int, mixture: SamplerSettings) -> OpttuneSampler:
    mixture = replace(mixture, races=settings.halving_for(table.steps).races)
    if isinstance(table, TaskSetTable):
        return NearestUntried(table, settings.space, seed=seed, mixture=mixture)
    return OpttuneSampler(settings.space, seed=seed, mixture=mixture)


def _config(space: Space, table: Table, budget: float, seed: int, folder: Path) -> SearchConfig:
    return SearchConfig(
        space=space,
        monitor="val_loss",
        mode="min",
        length={"max_steps": table.steps},
        study_name="replay",
        out_dir=folder,
        budget=budget,
        seed=seed,
        # without training losses it has nothing to judge
        guard=Guard() if len(table.loss_steps) else None,
        with_baseline=False,
        halving=_halving(table, budget),
    )


def _halving(table: Table, budget: float) -> SuccessiveHalving | None:
    """Return the rungs that a table's data allow; None for the search's own."""
    own, count = halving_for(table.steps), len(table.shares)
    if count:
        return replace(own, shares=table.shares, kept=own.kept[-count:], kept_of_all=own.kept_of_all[-count:])
    if not is_raced(table.steps, budget, can_look=table.has_looks):
        return SuccessiveHalving()
    return None if table.has_looks else replace(own, look_share=0.0)


def _inspection(table: Table) -> ModelInspection:
    return ModelInspection(
        table.name, 1, table.steps, replaced="", has_own_optimizer=False, facts=ModelFacts(parameters=1)
    )
