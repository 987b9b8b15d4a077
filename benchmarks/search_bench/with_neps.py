r"""NePS PriorBand on a table, where NePS is installed.

NePS 0.17 wants pandas below 3 and some sixty further packages, so it cannot share an environment with opttune's
development tools. It runs from a side environment that takes torch, optuna and opttune from the usual one:

    python -m venv neps
    python -c "import site; print(site.getsitepackages()[0])" > neps/lib/python3.11/site-packages/dev.pth
    neps/bin/pip install --no-deps neural-pipeline-search "pandas<3" gpytorch==1.13.0 "botorch<0.13" \
        linear_operator==0.5.3 jaxtyping==0.2.19  # and, likewise, what it then says is missing

`search.py` has the methods only where NePS is installed.
"""

from collections.abc import Mapping
from importlib.metadata import distributions
from math import isfinite
from typing import Any

import optuna

from opttune.space.model import Range, Space
from opttune.space.sample import sample_recipe
from search_bench.table_engine import Meter
from search_bench.tables import Table, with_lr_priors

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


def replay_neps(table: Table, budget: float, seed: int, method: str) -> Meter:
    """Search a table with PriorBand; a configuration that goes to a higher rung pays only for what lies beyond."""
    import neps
    import numpy as np
    import torch

    for set_seed in (np.random.seed, torch.manual_seed, __import__("random").seed):
        set_seed(seed)
    shift, prior_first = NEPS[method]
    space = with_lr_priors(table.space, shift)
    neps_space = _neps_space(space, len(table.eval_steps))
    asked = neps.AskAndTell(neps.algorithms.priorband(neps_space, sample_prior_first=prior_first))
    meter, reached = Meter(table), dict[str, int]()
    while meter.spent + table.steps <= budget * table.steps:
        trial = asked.ask()
        own = trial.id.rpartition("_")[0]
        row = table.find(_recipe_fields(space, trial.config))
        end = round(trial.config[FIDELITY] * table.steps / len(table.eval_steps))
        meter.pay(max(0, end - reached.get(own, 0)))
        reached[own] = end
        value = table.value_at(row, end)
        if end >= table.steps:
            meter.finish(row)
        asked.tell(trial, _DIVERGED if value is None or not isfinite(value) else value)
    return meter


def _neps_space(space: Space, evaluations: int) -> Any:
    """Return a space in NePS's words: PriorBand knows no conditions, so every field is always there."""
    import neps

    fields: dict[str, Any] = {FIDELITY: neps.HPOInteger(1, evaluations, is_fidelity=True)}
    for name, field in space.parameters():
        if isinstance(field, Range):
            fields[name] = neps.HPOFloat(
                field.low, field.high, log=field.scale == "log", prior=field.prior, prior_confidence="medium"
            )
        elif len(field.choices) > 1:
            # a prior on which optimizer would be one more piece of knowledge: opttune has none
            prior = None if name == "optimizer" else str(field.centre)
            fields[name] = neps.HPOCategorical([str(choice) for choice in field.choices], prior=prior)
    return neps.SearchSpace(fields)


def _recipe_fields(space: Space, config: Mapping[str, Any]) -> Mapping[str, Any]:
    words = {
        name: {str(choice): choice for choice in field.choices}
        for name, field in space.parameters()
        if not isinstance(field, Range)
    }
    chosen = {name: words[name][value] if name in words else value for name, value in config.items()}
    return sample_recipe(space, optuna.trial.FixedTrial(chosen)).flat()
