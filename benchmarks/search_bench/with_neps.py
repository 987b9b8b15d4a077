r"""NePS PriorBand on tables and on real trainings, where NePS is installed.

NePS 0.17 wants pandas below 3 and some sixty further packages, so it cannot share an environment with opttune's
development tools. It runs from a side environment that takes torch, optuna and opttune from the usual one:

    python -m venv neps
    python -c "import site; print(site.getsitepackages()[0])" > neps/lib/python3.11/site-packages/dev.pth
    neps/bin/pip install --no-deps neural-pipeline-search "pandas<3" gpytorch==1.13.0 "botorch<0.13" \
        linear_operator==0.5.3 jaxtyping==0.2.19  # and, likewise, what it then says is missing

Leave out torchvision: one that was not built for the usual environment's torch breaks Lightning.

`search.py` has the methods only where NePS is installed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna

from opttune.guard.rules import Guard
from opttune.outcome import StopReason
from opttune.recipe import Recipe
from opttune.space.model import Range, Space
from opttune.space.sample import sample_recipe
from opttune.training.attempt import Attempt, run_attempt
from opttune.training.workload import Workload
from search_bench.live_records import Trained
from search_bench.one_training import NoListener
from search_bench.table_engine import Meter
from search_bench.tables import Table, with_lr_priors
from search_bench.tasks import LiveTask

_IS_THERE = bool(list(distributions(name="neural-pipeline-search")))
_VARIANTS: Mapping[str, tuple[float, bool | str]] = {
    "neps_priorband": (0.0, False),
    "neps_first": (0.0, "highest_fidelity"),
    "neps_plus": (1.5, False),
    "neps_minus": (-1.5, False),
}
NEPS = _VARIANTS if _IS_THERE else {}
"""Method -> by how many decades the prior is wrong, and NePS's `sample_prior_first` (False unless a user asks for it);
none where NePS is not installed."""
FIDELITY = "share"
_DIVERGED = 1e9
_LIVE_LEVELS = 9
"""Real trainings are compared at one and three ninths of the length: PriorBand keeps a third each time."""


def replay_neps(table: Table, budget: float, seed: int, method: str) -> Meter:
    """Search a table with PriorBand; a configuration that goes to a higher rung pays only for what lies beyond."""
    levels = len(table.eval_steps)
    band = PriorBand(table.space, levels, seed, method)
    meter, reached = Meter(table), dict[str, int]()
    while meter.spent + table.steps <= budget * table.steps:
        asked = band.ask()
        row = table.find(asked.recipe.flat())
        end = round(asked.level * table.steps / levels)
        meter.pay(max(0, end - reached.get(asked.configuration, 0)))
        reached[asked.configuration] = end
        if end >= table.steps:
            meter.finish(row)
        band.tell(asked, table.value_at(row, end))
    return meter


def run_neps(task: LiveTask, space: Space, method: str, seed: int, budget: float) -> list[Trained]:
    """Search a real task with PriorBand and return its trials; continued trials resume from their saved states.

    opttune's own training runs the recipes, with its guard, so that a training which diverges costs little.
    """
    band, workload = PriorBand(space, _LIVE_LEVELS, seed, method), Workload(task.model, task.data)
    spent, trained, reached = 0, list[Trained](), dict[str, int]()
    trainer = {"max_steps": task.steps, "accelerator": "cpu", **task.trainer}
    with TemporaryDirectory(prefix="neps-live-") as folder:
        while spent + task.steps <= budget * task.steps:
            asked = band.ask()
            before, end = reached.get(asked.configuration, 0), round(asked.level * task.steps / _LIVE_LEVELS)
            states = [Path(folder) / f"{asked.configuration}_{step}.ckpt" for step in (before, end)]
            attempt = Attempt(
                asked.recipe, "val_loss", seed, trainer, Guard(),
                checkpoint=states[1], until_step=end, resume_from=states[0] if states[0].exists() else None,
            )  # fmt: skip
            outcome = run_attempt(attempt, workload, NoListener())
            if outcome.reason in (StopReason.FAILED, StopReason.OUT_OF_MEMORY):
                raise SystemExit(outcome.message)  # no divergence, and NePS is not to blame
            spent += max(0, outcome.steps - before)
            reached[asked.configuration] = outcome.steps
            value = outcome.value if outcome.steps == task.steps else None
            trained.append(Trained(spent, value, str(asked.recipe), outcome.steps / task.steps, outcome.value))
            band.tell(asked, outcome.value)
    return trained


@dataclass(frozen=True)
class Asked:
    """What PriorBand wants to be trained next.

    Attributes:
        handle: NePS's own trial.
        configuration: The configuration's name, the same on every level.
        recipe: What to train.
        level: Up to which level, the full length being the highest.
    """

    handle: Any
    configuration: str
    recipe: Recipe
    level: int


class PriorBand:
    """NePS's PriorBand over one of opttune's spaces.

    Args:
        space: What varies; its priors are shifted as the method says.
        levels: Into how many levels the length is divided.
        seed: Of the search.
        method: A key of `NEPS`.
    """

    def __init__(self, space: Space, levels: int, seed: int, method: str) -> None:
        import neps
        import numpy as np
        import torch

        for set_seed in (np.random.seed, torch.manual_seed, __import__("random").seed):
            set_seed(seed)
        shift, prior_first = NEPS[method]
        self._space = with_lr_priors(space, shift)
        band = neps.algorithms.priorband(_neps_space(self._space, levels), sample_prior_first=prior_first)
        self._asked = neps.AskAndTell(band)

    def ask(self) -> Asked:
        """Return what to train next."""
        trial = self._asked.ask()
        recipe = recipe_of(self._space, trial.config)
        return Asked(trial, trial.id.rpartition("_")[0], recipe, trial.config[FIDELITY])

    def tell(self, asked: Asked, value: float | None) -> None:
        """Say what came of it; None where it diverged."""
        self._asked.tell(asked.handle, _DIVERGED if value is None or not isfinite(value) else value)


def _neps_space(space: Space, levels: int) -> Any:
    """Return a space in NePS's words: PriorBand knows no conditions, so every field is always there."""
    import neps

    fields: dict[str, Any] = {FIDELITY: neps.HPOInteger(1, levels, is_fidelity=True)}
    for name, field in space.parameters():
        if isinstance(field, Range):
            low, high = field.optuna_bounds
            prior = None if field.prior is None else field.to_optuna(field.prior)
            fields[name] = neps.HPOFloat(low, high, log=field.is_log_in_optuna, prior=prior, prior_confidence="medium")
        elif len(field.choices) > 1:
            # no prior on the optimizer; a default recipe that goes first takes the space's first one, as opttune does
            prior = None if name == "optimizer" else str(field.centre)
            fields[name] = neps.HPOCategorical([str(choice) for choice in field.choices], prior=prior)
    return neps.SearchSpace(fields)


def recipe_of(space: Space, config: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a configuration; what does not vary is not in it."""
    chosen: dict[str, Any] = {}
    for name, field in space.parameters():
        if isinstance(field, Range):
            # on the scale log_of_one_minus both search 1 - x, Optuna under another name
            chosen[field.optuna_name(name)] = config[name]
        else:
            words = {str(choice): choice for choice in field.choices}
            chosen[name] = words[config[name]] if name in config else field.choices[0]
    return sample_recipe(space, optuna.trial.FixedTrial(chosen))
