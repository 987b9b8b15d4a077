"""`OpttuneSampler`: opttune's search method as an Optuna sampler."""

from collections.abc import Mapping, Sequence
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

from opttune.algorithms.draws import Configuration, Parameters
from opttune.algorithms.observations import Observation
from opttune.algorithms.proposal import TRIALS_OF_FIRST, SamplerSettings, propose_without
from opttune.integration.observations import read_observation
from opttune.integration.trial_space import DEFAULT_BUDGET, SpaceRequest, TrialSpace, settle_early, shared_space
from opttune.space.model import Space
from opttune.storages.records import OUTCOME, SOURCE, read_trial
from opttune.study.guard_rules import silenced

_ONE_AT_A_TIME = Lock()
"""Threads that share a study see one another's trials. The lock belongs to the module, because a sampler is pickled."""


class OpttuneSampler(BaseSampler):
    """Tries the default recipe of each optimizer first, then the most promising recipes of a model of all trials.

    A line search follows each default: if the best learning rate of an optimizer is the highest or the lowest tried,
    the next trial takes ten times that rate, or a tenth. The first optimizer has four trials before the second starts,
    unless several trials train at a time.

    After that, a Gaussian process chooses each trial by expected improvement, among mutations of the best one, draws
    from the priors and draws from the whole space. It reads learning rates in decades from their priors. It also
    estimates a common error of all priors, so a few trials lead away from wrong priors. Optimizers learn from each
    other if their fields mean the same. `opttune.algorithms.proposal` has the details and the papers.

    A trial's parameters depend on the seed, its number and the earlier trials, so an interrupted study continues
    unchanged. Parameters outside the space, such as those of your own objective, are drawn at random.

    With `TrialCallback` the sampler needs no further arguments: the first trial settles the space for its module and
    its length, as `opttune.search` does, and the sampler reads it from the study. In other objectives, give
    `max_steps`. Without it, the space is sampled as written in its file, with the learning rates of long trainings.

    Args:
        space: The space to sample: a `Space`, the name of a shipped space, or a file.
        seed: Seed of the search; None draws one.
        mixture: Shares of the sources of draws; None for the defaults.
        max_steps: Optimizer steps of one training, for which a shipped space is settled.
        model: The LightningModule, its class or a function that makes it. With `max_steps`, the space `auto` needs it.
        budget: With `max_steps`, the cost of the whole study in full trainings. A larger budget lets more fields vary.

    Raises:
        InputError: `auto` with `max_steps` and no `model`, or `model` without `max_steps`.

    Example:
        >>> import optuna
        >>> from opttune.space.parse import load_space
        >>> from opttune.space.sample import sample_recipe
        >>> space = load_space("adamw")
        >>> study = optuna.create_study(sampler=OpttuneSampler(space, seed=0))
        >>> print(sample_recipe(space, study.ask()).optimizer)
        adamw(lr=0.0003, betas=(0.9, 0.999), weight_decay=0.01)
    """

    def __init__(
        self,
        space: Space | str | Path,
        *,
        seed: int | None = None,
        mixture: SamplerSettings | None = None,
        max_steps: int | None = None,
        model: Any = None,
        budget: float = DEFAULT_BUDGET,
    ) -> None:
        self._request = SpaceRequest.of(space, budget)
        early = settle_early(self._request, max_steps, model, type(self).__name__)
        self._space = self._request.space if early is None else early.settled.space
        self._shared: Mapping[str, Any] | None = None
        self._seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self._settings = mixture or SamplerSettings()
        self._left_out: frozenset[str] = frozenset()
        self._names = _parameter_names(self._space)
        # of the currently asking trials: several, if threads share a study
        self._configurations: dict[int, Parameters] = {}
        self._seen: list[_SeenTrial | None] = []

    def leave_out(self, optimizer: str) -> None:
        """Propose no more trials of an optimizer."""
        self._left_out |= {optimizer}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: `sample_independent` samples every parameter."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing: `sample_independent` samples every parameter."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a parameter of the trial's configuration, or a random value if it is outside the space."""
        with _ONE_AT_A_TIME:
            configuration = self._configuration(study, trial)
        if param_name in configuration and _fits(configuration[param_name], param_distribution):
            return configuration[param_name]
        seed = crc32(f"{self._seed}/{trial.number}/{param_name}".encode())
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forget the trial's configuration."""
        self._configurations.pop(trial.number, None)

    def _configuration(self, study: optuna.Study, trial: FrozenTrial) -> Parameters:
        self._follow(study)
        configuration = self._configurations.get(trial.number)
        if configuration is None:
            others = self._read_others(study, trial.number)
            # trials that a now inactive rule of the guard has ended say nothing
            off = silenced(read_trial(one.trial) for one in others)
            observations = [
                one.observation
                for one in others
                if one.observation is not None and not (off and _reason(one.trial) in off)
            ]
            tried = [one.configuration for one in others]
            left_out = self._left_out | _too_early(study, tried)
            configuration = propose_without(
                left_out, self._space, trial.number, self._seed, observations, tried, self._settings
            )
            self._configurations[trial.number] = configuration
        return configuration

    def _follow(self, study: optuna.Study) -> None:
        """Use the space that `TrialCallback` has settled for the study, from its first trial on."""
        shared = shared_space(study._storage.get_study_user_attrs(study._study_id), self._request)
        if shared is not None and shared != self._shared:
            self._shared, self._space = shared, TrialSpace.from_dict(shared).settled.space
            self._names = _parameter_names(self._space)
            # one may have been made for a parameter outside the space, before the fit started
            self._configurations, self._seen = {}, []

    def _read_others(self, study: optuna.Study, asking: int) -> list["_SeenTrial"]:
        """Return all trials except the one that is asking."""
        directions, before = study.directions, chain(self._seen, repeat(None))
        # a storage returns the same object until something is written to the trial
        self._seen = [
            None if trial.number == asking
            else seen if seen is not None and seen.trial is trial
            else self._read(trial, directions)
            for trial, seen in zip(study.get_trials(deepcopy=False), before, strict=False)
        ]  # fmt: skip
        return [seen for seen in self._seen if seen is not None]

    def _read(self, trial: FrozenTrial, directions: Sequence[StudyDirection]) -> "_SeenTrial":
        own = Configuration((name, value) for name, value in trial.params.items() if name in self._names)
        # a study with several objectives has no best trial to learn from
        found = read_observation(trial, directions[0]) if len(directions) == 1 else None
        # parameters outside the space say nothing
        observation = replace(found, parameters=own) if found else None
        proposed = self._configurations.get(trial.number)
        # a running trial may not have asked for all of its parameters yet
        return _SeenTrial(trial, observation, own if proposed is None else Configuration(proposed | own))


@dataclass(frozen=True, slots=True)
class _SeenTrial:
    trial: FrozenTrial
    observation: Observation | None
    configuration: Configuration


def _too_early(study: optuna.Study, tried: Sequence[Parameters]) -> set[str]:
    """Return the optimizer of a given baseline, until the first optimizer has had its turn."""
    given = {str(one.params.get("optimizer")) for one in study.get_trials(deepcopy=False) if SOURCE in one.user_attrs}
    others = [one for one in tried if one and one.get("optimizer") not in given]
    return given if given and len(others) < TRIALS_OF_FIRST else set()


def _reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(OUTCOME, {}).get("reason", ""))


def _parameter_names(space: Space) -> set[str]:
    return {field.optuna_name(name) for name, field in space.parameters()}


def _fits(value: Any, distribution: BaseDistribution) -> bool:
    match distribution:
        case CategoricalDistribution():
            choices: Sequence[Any] = distribution.choices
            return value in choices
        case FloatDistribution() | IntDistribution():
            return isinstance(value, int | float) and distribution.low <= value <= distribution.high
    return False
