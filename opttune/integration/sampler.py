"""`OpttuneSampler`: opttune's search method as an Optuna sampler."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from opttune.algorithms.draws import Parameters, Plan
from opttune.algorithms.observations import Observation, read_observations
from opttune.algorithms.proposal import SamplerSettings, propose
from opttune.space.model import Space
from opttune.space.parse import load_space
from opttune.space.sample import parameter

_ONE_AT_A_TIME = Lock()
"""Threads that share a study heed one another; of the module, as a sampler is pickled with its study."""


class OpttuneSampler(BaseSampler):
    """Draws the default recipe of each optimizer first, then what a model of the trials so far promises most of.

    A learning rate that is the best of its optimizer, and the highest or the lowest that was tried, is followed by ten
    times as much, or a tenth: a line search, which begins at each default. The first optimizer has four trials before
    the second has its turn, unless several train at a time.

    A model of all trials so far chooses each (a Gaussian process that reads learning rates in decades from their
    priors) among mutations of the best trial, draws from the priors, and from the whole space. It weighs by how many
    decades the priors of all optimizers may be off together, so that wrong ones are left after a few trials. What one
    optimizer shows counts for the others where fields mean the same.

    What a trial draws follows from the seed, its number and the trials before it, so that a study that was
    stopped goes on as it would have. Parameters that are not of the space, such as others of your own objective,
    are drawn at random.

    Args:
        space: What may vary: a space, the name of one that ships with opttune, or a file.
        seed: Seed of the search; None draws one.
        mixture: How the draws are mixed; None for the usual shares.

    Example:
        >>> import optuna
        >>> from opttune.space.sample import sample_recipe
        >>> space = load_space("adamw")
        >>> study = optuna.create_study(sampler=OpttuneSampler(space, seed=0))
        >>> print(sample_recipe(space, study.ask()).optimizer)
        adamw(lr=0.0003, betas=(0.9, 0.999), weight_decay=0.01)
    """

    def __init__(
        self, space: Space | str | Path, *, seed: int | None = None, mixture: SamplerSettings | None = None
    ) -> None:
        self._space = space if isinstance(space, Space) else load_space(space)
        self._seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self._mixture = mixture or SamplerSettings()
        self._names = _parameter_names(self._space)
        # of the trials that are asking just now: several, where threads share a study
        self._plans: dict[int, Parameters] = {}
        self._seen: list[_Seen | None] = []

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: every parameter of a config is handed out as it is asked for."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing: every parameter of a config is handed out as it is asked for."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the planned value of a parameter, or a random one where it is not of the space."""
        with _ONE_AT_A_TIME:
            config = self._config(study, trial)
        if param_name in config and _fits(config[param_name], param_distribution):
            return config[param_name]
        seed = crc32(f"{self._seed}/{trial.number}/{param_name}".encode())
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forget the trial's config."""
        self._plans.pop(trial.number, None)

    def _config(self, study: optuna.Study, trial: FrozenTrial) -> Parameters:
        config = self._plans.get(trial.number)
        if config is None:
            others = self._look_at_others(study, trial.number)
            observations = [one.observations for one in others if one.observations is not None]
            plans = [one.config for one in others]
            config = propose(self._space, trial.number, self._seed, observations, plans, self._mixture)
            self._plans[trial.number] = config
        return config

    def _look_at_others(self, study: optuna.Study, asking: int) -> list["_Seen"]:
        """Return what all trials say but the one that is asking."""
        directions, before = study.directions, chain(self._seen, repeat(None))
        # a storage hands out the same object again until something is written to the trial
        self._seen = [
            None if trial.number == asking
            else seen if seen is not None and seen.trial is trial
            else self._read(trial, directions)
            for trial, seen in zip(study.get_trials(deepcopy=False), before, strict=False)
        ]  # fmt: skip
        return [seen for seen in self._seen if seen is not None]

    def _read(self, trial: FrozenTrial, directions: Sequence[StudyDirection]) -> "_Seen":
        own = Plan((name, value) for name, value in trial.params.items() if name in self._names)
        # a study with several objectives has no best trial to learn from
        found = read_observations([trial], directions[0]) if len(directions) == 1 else []
        # parameters that are not of the space say nothing
        observations = replace(found[0], parameters=own) if found else None
        planned = self._plans.get(trial.number)
        # one that runs may not have asked for all of its config yet
        return _Seen(trial, observations, own if planned is None else Plan(planned | own))


@dataclass(frozen=True, slots=True)
class _Seen:
    trial: FrozenTrial
    observations: Observation | None
    config: Plan


def _parameter_names(space: Space) -> set[str]:
    return {parameter(name, field, field.centre)[0] for name, field in space.parameters()}


def _fits(value: Any, distribution: BaseDistribution) -> bool:
    match distribution:
        case CategoricalDistribution():
            choices: Sequence[Any] = distribution.choices
            return value in choices
        case FloatDistribution() | IntDistribution():
            return isinstance(value, int | float) and distribution.low <= value <= distribution.high
    return False
