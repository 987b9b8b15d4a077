"""A user's script that trains on two CPU ranks: `python -m tests.support.rank_script STRATEGY FOLDER WHAT TIMES`.

Under `ddp` Lightning runs it again for the second rank. Each rank writes what it saw into the folder.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
from lightning.pytorch.utilities import rank_zero_only

import opttune
from opttune.outcome import Outcome
from tests.support import models as m
from tests.support.searches import TINY, make_space

SPACE = make_space(TINY)
WILD = make_space("optimizer: {sgd: {lr: {low: 999, high: 1001, log: true}}}")


class RankAlone(m.Net):
    """Its loss becomes NaN only on the first rank, whose losses decide."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_step >= 6 and self.global_rank == 0 else loss


class Ended(m.AnyCallback):
    """Leaves in a file where each rank's training ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        with self.path.with_suffix(f".rank{trainer.global_rank}").open("a") as stream:
            stream.write(f"{trainer.global_step}\n")


def trainer(strategy: str, *callbacks: Any, **settings: Any) -> Any:
    return m.quiet_trainer(*callbacks, **{"max_steps": 40, "strategy": strategy, "devices": 2, **settings})


def guard(strategy: str, folder: Path, times: int) -> list[Any]:
    found = []
    for _ in range(times):
        callback = opttune.GuardCallback()
        trainer(strategy, callback, Ended(folder / "ended")).fit(RankAlone(), *m.loaders())
        found.append(callback.decision and [callback.decision.reason, callback.decision.step])
    return found


def recipe(strategy: str, folder: Path, times: int) -> list[Any]:
    recipe = opttune.Recipe.from_dict({"optimizer": {"name": "adamw", "lr": 0.03}, "schedule": "cosine"})
    found = []
    for net in (m.Net, m.NanAtStep7):
        pl.seed_everything(0, workers=True, verbose=False)
        callback, fitted = opttune.RecipeCallback(recipe, guard=True), None
        fitted = trainer(strategy, callback, Ended(folder / "ended"))
        fitted.fit(net(), *m.loaders())
        decision = callback.decision
        found.append([float(fitted.callback_metrics.get("val_loss", -1)), decision and decision.step])
    return found


def trials(strategy: str, folder: Path, times: int, url: str | None = None, **how: Any) -> list[Any]:
    """A study whose second trial the pruner ends and whose third one the guard."""
    # the ranks beyond the first sample independently, and their values must not be used
    study = optuna.create_study(
        study_name="ranks",
        storage=url,
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1),
    )
    if rank_zero_only.rank == 0:
        study.enqueue_trial({"adamw.lr": 0.05, "adamw.weight_decay": 0.1, "schedule": "constant"})
        study.enqueue_trial({"adamw.lr": 1e-3, "adamw.weight_decay": 0.1, "schedule": "constant"})
    kept: list[Outcome | None] = []

    def objective(trial: optuna.Trial) -> float:
        pl.seed_everything(0, workers=True, verbose=False)
        space = SPACE if trial.number < 2 else WILD
        callback = opttune.TrialCallback(trial, space, tracking=False, **how)
        fitted = trainer(strategy, callback, Ended(folder / "ended"), max_steps=24)
        try:
            fitted.fit(m.Net(), *m.loaders())
        finally:
            kept.append(callback.outcome)
        return callback.result()

    study.optimize(objective, n_trials=3)
    if rank_zero_only.rank != 0:
        return [[trial.state.name, trial.value, list(trial.params)] for trial in study.trials]
    return [
        [
            trial.state.name,
            trial.value,
            trial.intermediate_values,
            sorted(trial.user_attrs),
            list(trial.params),
            outcome and outcome.reason,
        ]
        for trial, outcome in zip(study.trials, kept, strict=True)
    ]


def main(strategy: str, folder: str, what: str, times: str) -> None:
    warnings.simplefilter("ignore")
    where = Path(folder)
    url = f"sqlite:///{where / 'study.db'}"
    does = {
        "guard": guard,
        "recipe": recipe,
        "trials": trials,
        "early": lambda *given: trials(*given, max_steps=24),
        "shared": lambda *given: trials(*given, url=url),
        # as the message advises
        "advised": lambda *given: trials(*given, url=url if rank_zero_only.rank == 0 else None),
    }
    try:
        found: Any = does[what](strategy, where, int(times))
    except opttune.errors.OpttuneError as err:
        found = str(err)
    (where / f"found{os.environ.get('LOCAL_RANK', '')}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
