"""Optuna on real trainings: as people write it, and as an expert does.

As people write it (`random`, `tpe`, `tpe_median`, `tpe_hyperband`): the space of Optuna's own PyTorch Lightning
example (Adam, RMSprop or SGD, a learning rate from 1e-5 to 1e-1, constant) with optuna-integration's pruning callback.
The expert's (`expert_median`, `expert_hyperband`): the optimizers and schedules that opttune's `auto` searches, as one
conditional space, TPE multivariate by group, and an end to trainings whose validation loss is NaN.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import lightning
import optuna
import torch
from lightning.pytorch.callbacks import Callback
from optuna.pruners import NopPruner
from optuna.trial import TrialState

from opttune import RecipeCallback
from opttune.build.module_facts import read_facts
from opttune.space.auto import choose_space
from opttune.space.model import Space
from opttune.space.sample import sample_recipe
from opttune.storages.open_storage import quiet_optuna
from opttune.training.isolation import isolated
from search_bench.live_records import BUDGET, Trained
from search_bench.tasks import LiveTask, Task
from search_bench.with_optuna import OPTUNA, OptunaMethod

TRIALS = 25
"""The number of trials that people usually run; a method that prunes continues until the budget is spent."""


def auto_space(task: LiveTask, budget: float = BUDGET) -> Space:
    """Return what `opttune.search(space="auto")` would search."""
    return choose_space(read_facts(task.model()), task.steps, budget).space


def run_optuna(task: LiveTask, name: str, seed: int, budget: float = BUDGET) -> list[Trained]:
    """Run a method and return its trials.

    Args:
        task: What is trained.
        name: The method, a key of `OPTUNA`.
        seed: Of the sampler, of the weights and of the order of the data.
        budget: Cost in full trainings.
    """
    method, spent, trained = OPTUNA[name], 0, list[Trained]()
    space = auto_space(task, budget) if method.conditional else None
    with quiet_optuna(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=method.sampler(seed), pruner=method.pruner(task.epochs))
        least = 0 if isinstance(study.pruner, NopPruner) else TRIALS
        while len(trained) < least or spent + task.steps <= budget * task.steps:
            trial = study.ask()
            steps, value = _Objective(task, method, space, seed)(study, trial)
            spent += steps
            trained.append(Trained(spent, value))
    return trained


@dataclass(frozen=True)
class _Objective:
    """Trains one trial.

    Attributes:
        task: What is trained.
        method: How.
        space: What the expert searches; None for what people write.
        seed: Of the weights and of the order of the data.
    """

    task: LiveTask
    method: OptunaMethod
    space: Space | None
    seed: int

    def __call__(self, study: optuna.Study, trial: optuna.Trial) -> tuple[int, float | None]:
        """Train, tell the study, and return the steps and the value, None where it did not come to the end."""
        with isolated(self.seed):
            return self._train(study, trial)

    def _train(self, study: optuna.Study, trial: optuna.Trial) -> tuple[int, float | None]:
        model = self.task.model()
        callbacks: list[Callback] = []
        if self.space is None:
            _configure(model, trial)
        else:
            callbacks.append(RecipeCallback(sample_recipe(self.space, trial)))
        if self.method.stops_nan:
            callbacks.append(_EndsAtNaN())
        if not isinstance(study.pruner, NopPruner):
            callbacks.append(_pruning_callback(trial))
        trainer = quiet_trainer(self.task, callbacks)
        try:
            trainer.fit(model, *self.task.data())
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
            return trainer.global_step, None
        value = float(trainer.callback_metrics["val_loss"])
        if not isfinite(value):
            study.tell(trial, state=TrialState.FAIL)
            return trainer.global_step, None
        study.tell(trial, value)
        return trainer.global_step, value


def _configure(model: Task, trial: optuna.Trial) -> None:
    """Ask for what Optuna's example asks for, and put it in place."""
    name = trial.suggest_categorical("optimizer", ["Adam", "RMSprop", "SGD"])
    lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    build: Callable[..., Any] = getattr(torch.optim, name)
    model.configure_optimizers = lambda: build(model.parameters(), lr=lr)  # type: ignore[method-assign]


def _pruning_callback(trial: optuna.Trial) -> Callback:
    try:
        from optuna_integration import PyTorchLightningPruningCallback
    except ImportError:
        raise SystemExit("Optuna's pruning callback is not installed: pip install optuna-integration") from None
    callback: Callback = PyTorchLightningPruningCallback(trial, monitor="val_loss")
    return callback


class _EndsAtNaN(Callback):
    """What an expert adds: a training whose validation loss is not finite is over."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """End the training."""
        if not isfinite(float(trainer.callback_metrics["val_loss"])):
            raise optuna.TrialPruned("val_loss is not finite")


def quiet_trainer(task: LiveTask, callbacks: list[Callback]) -> lightning.Trainer:
    """Return a Trainer of the full length that writes nothing."""
    return lightning.Trainer(
        max_steps=task.steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        **task.trainer,
    )
