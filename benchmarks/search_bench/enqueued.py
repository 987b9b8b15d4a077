"""An Optuna user whose module brings a good recipe: it is the first trial, and its knobs are searched from there.

`enqueued` keeps the module's own optimizer class and schedule and searches the learning rate, weight decay and warmup;
the recipe is enqueued. `enqueued_adamw` trains the recipe first too and then searches AdamW with a cosine, from AdamW's
customary values. Both have TPE as Optuna 5 has it by default (multivariate) and the median pruner.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from math import cos, isfinite, pi
from typing import Any

import lightning
import optuna
import torch
from lightning.pytorch.callbacks import Callback
from optuna.trial import TrialState

from opttune.storages.open_storage import quiet_optuna
from opttune.training.isolation import isolated
from search_bench.live_optuna import quiet_trainer
from search_bench.live_records import Trained
from search_bench.long_tasks import RANGES, LongTask, WithRecipe
from search_bench.tasks import Task

ENQUEUED = ("enqueued", "enqueued_adamw")
_ADAMW = {"lr": 1e-3, "weight_decay": 1e-2, "warmup": 0.05}


def run_own(task: LongTask, seed: int) -> list[Trained]:
    """Train the module's own recipe once."""
    steps, value, _ = _train(task, task.model, seed)
    return [Trained(steps, value, _words("own", task.own), 1.0)]


def run_enqueued(task: LongTask, method: str, seed: int, budget: float) -> list[Trained]:
    """Search until the budget is spent; a training that would go beyond it is not begun.

    Args:
        task: What is trained.
        method: One of `ENQUEUED`.
        seed: Of the sampler, of the weights and of the order of the data.
        budget: Cost in full trainings.
    """
    keeps_own = method == "enqueued"
    trained = [] if keeps_own else run_own(task, seed)
    name, ranges, begin = ("own", task.ranges, task.own) if keeps_own else ("adamw", RANGES, _ADAMW)
    with quiet_optuna():
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True), pruner=optuna.pruners.MedianPruner()
        )
        study.enqueue_trial(dict(begin))
        spent = sum(one.spent for one in trained)
        while spent + task.steps <= budget * task.steps:
            trial = study.ask()
            knobs = {knob: trial.suggest_float(knob, *ends, log=knob != "warmup") for knob, ends in ranges.items()}
            make = partial(task.model if keeps_own else partial(_with_adamw, task), **knobs)
            steps, value, seen = _train(task, make, seed, trial)
            study.tell(trial, value, state=TrialState.PRUNED if value is None else None)
            spent += steps
            trained.append(Trained(spent, value, _words(name, knobs), steps / task.steps, seen))
    return trained


def _words(name: str, knobs: Mapping[str, float]) -> str:
    return f"{name}({', '.join(f'{knob}={value:.3g}' for knob, value in knobs.items())})"


def _train(
    task: LongTask, make: Callable[[], Task], seed: int, trial: optuna.Trial | None = None
) -> tuple[int, float | None, float | None]:
    """Train a model; return the steps, the value at the full length if it has one, and the last one before."""
    with isolated(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
        trainer = quiet_trainer(task, [] if trial is None else [_Pruning(trial)])
        try:
            trainer.fit(model, *task.data())
        except optuna.TrialPruned:
            return trainer.global_step, None, _value(trainer)
    value = _value(trainer)
    return trainer.global_step, value, None


def _value(trainer: lightning.Trainer) -> float | None:
    value = float(trainer.callback_metrics["val_loss"])
    return value if isfinite(value) else None


class _Pruning(Callback):
    """Reports each validation and ends the training when the pruner says so."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report, and end the training."""
        self._trial.report(float(trainer.callback_metrics["val_loss"]), trainer.global_step)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _with_adamw(task: LongTask, lr: float, weight_decay: float, warmup: float) -> WithRecipe:
    """Return the model with AdamW, a linear warmup and a cosine down to zero."""
    model: WithRecipe = task.model(warmup=warmup)

    def configure_optimizers() -> Any:
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
        return model.by_step(optimizer, lambda share: (1 + cos(pi * share)) / 2)

    model.configure_optimizers = configure_optimizers  # type: ignore[method-assign]
    return model
