"""What people use: Optuna's samplers and pruners on a table.

`random`, `tpe`, `tpe_median` and `tpe_hyperband` search the space as people write it, with one learning rate for all
optimizers. The expert's (`expert_median`, `expert_hyperband`) search the conditional space that opttune has, with TPE
multivariate by group; an expert also ends a training whose loss is NaN. A training of the others continues
with NaN until a pruner ends it, and a trial whose value is NaN is a failed one to Optuna, which learns nothing of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from opttune.recipe import Recipe
from opttune.space.model import Choice, Fixed, Range, Space
from opttune.space.sample import sample_recipe
from opttune.storages.open_storage import quiet_optuna
from search_bench.table_engine import Meter
from search_bench.tables import Table


@dataclass(frozen=True, slots=True)
class OptunaMethod:
    """A sampler with a pruner.

    Attributes:
        sampler: Makes the sampler of a seed.
        pruner: Makes the pruner for a number of validations per training.
        conditional: Whether each optimizer has its own learning rate.
        stops_nan: Whether a training whose validation loss is NaN is ended at once.
    """

    sampler: Callable[[int], BaseSampler]
    pruner: Callable[[int], BasePruner]
    conditional: bool = False
    stops_nan: bool = False


def _no_pruner(evaluations: int) -> BasePruner:
    return NopPruner()


def _median(evaluations: int) -> BasePruner:
    return MedianPruner()


def _expert_median(evaluations: int) -> BasePruner:
    # nothing is ranked during warmup
    return MedianPruner(n_warmup_steps=evaluations // 10)


def _hyperband(evaluations: int) -> BasePruner:
    return HyperbandPruner(min_resource=1, max_resource=evaluations, reduction_factor=3)


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed)


def _expert_tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True, group=True)


OPTUNA = {
    "random": OptunaMethod(lambda seed: RandomSampler(seed=seed), _no_pruner),
    "tpe": OptunaMethod(_tpe, _no_pruner),
    "tpe_median": OptunaMethod(_tpe, _median),
    "tpe_hyperband": OptunaMethod(_tpe, _hyperband),
    "expert_median": OptunaMethod(_expert_tpe, _expert_median, conditional=True, stops_nan=True),
    "expert_hyperband": OptunaMethod(_expert_tpe, _hyperband, conditional=True, stops_nan=True),
}


def shared_recipe(space: Space, trial: optuna.Trial) -> Recipe:
    """Ask a trial for a recipe as people write it: fields of the same name are one, whatever the optimizer."""
    chosen: dict[str, Any] = {}
    for kind, branches in (("optimizer", space.optimizers), ("schedule", space.schedules)):
        names = [branch.name for branch in branches]
        name = trial.suggest_categorical(kind, names) if len(names) > 1 else names[0]
        chosen[kind] = name
        for inner, field in branches[names.index(name)].fields:
            match field:
                case Range():
                    value: Any = trial.suggest_float(inner, field.low, field.high, log=field.scale == "log")
                case Choice():
                    value = trial.suggest_categorical(inner, list(field.choices))
                case Fixed():
                    continue
            chosen[f"{name}.{inner}"] = value
    return sample_recipe(space, optuna.trial.FixedTrial(chosen))


def replay_optuna(table: Table, budget: float, seed: int, method: OptunaMethod) -> Meter:
    """Search a table with Optuna; a training that would go beyond the budget is not begun, as in opttune."""
    meter = Meter(table)
    with quiet_optuna():
        # Hyperband draws a trial's bracket from the study's name, which is a random one unless given
        study = optuna.create_study(
            study_name=f"replay-{seed}", sampler=method.sampler(seed), pruner=method.pruner(len(table.eval_steps))
        )
        while meter.spent + table.steps <= budget * table.steps:
            _train(study, meter, method)
    return meter


def _train(study: optuna.Study, meter: Meter, method: OptunaMethod) -> None:
    table, trial = meter.table, study.ask()
    ask = sample_recipe if method.conditional else shared_recipe
    row = table.find(ask(table.space, trial).flat())
    prunes = not isinstance(study.pruner, NopPruner)
    done = 0
    for number, step in enumerate(table.eval_steps.tolist(), start=1):
        value = table.value_at(row, step)
        meter.pay(step - done)
        done = step
        is_bad = value is None and method.stops_nan
        if prunes or is_bad:
            trial.report(nan if value is None else value, step=number)
        if is_bad or (prunes and trial.should_prune()):
            study.tell(trial, state=TrialState.PRUNED)
            return
    if value is None:
        study.tell(trial, state=TrialState.FAIL)
        return
    meter.finish(row)
    study.tell(trial, value)
