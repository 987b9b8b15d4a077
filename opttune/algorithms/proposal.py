"""The choice of the next recipe: defaults, line searches, then the candidate with the largest expected improvement.

This is Bayesian optimization with priors:

1. The default recipe of each optimizer comes first, as PriorBand can try the mode of its prior first (Mallik et al.
   2023, https://arxiv.org/abs/2306.12370). It is shifted by the estimated shift of all priors (`prior_shift`).
2. A line search along the learning rate follows each default (`line_search`).
3. The candidates are mutations of the best trial, draws from the shifted priors and draws from the whole space, the
   three sources of PriorBand. PriorBand trains each draw. It weights prior and incumbent by how well each explains the
   best trials. Here each source gives the same number of candidates, and a Gaussian process chooses one
   (`gaussian_process`). Learning rates at which all trials diverged are not drawn again (`lr_bounds`). If an
   optimizer's best rate lies beyond its range, the candidates do not stop at the range's end (`widen_ranges`).

docs/the_search.md has the cost of the search without each part. Unless stated otherwise, the shares and counts below
were chosen on the tables for development (`benchmarks/search_bench/tables.py`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log10

import numpy as np

from opttune.algorithms.draws import (
    PRIOR_SHARE,
    Parameters,
    SeenConfigurations,
    configuration_key,
    draw_from_branches,
    draw_from_prior,
    draw_new,
)
from opttune.algorithms.gaussian_process import GaussianProcess
from opttune.algorithms.line_search import is_searchable, next_points, next_points_below, widen_ranges
from opttune.algorithms.lr_bounds import cap_learning_rates
from opttune.algorithms.observations import Observation, best_first
from opttune.algorithms.prior_shift import SHIFTS, posterior, shift_priors, within_ranges, without_priors
from opttune.errors import InputError
from opttune.space.model import Branch, Choice, Range, Scalar, Space
from opttune.space.sample import default_parameters

_LEAST_FOR_MODEL = 2
"""Minimum number of trials with a value for the model. With fewer, it knows no more than the priors. Chosen by hand."""
TRIALS_OF_FIRST = 4
"""Trials of the first optimizer before the turn of the second: mostly the default, two of its line search, and one that
the model chooses. This costs a little with right priors (0.268 of TPE's cost, 0.247 without it, when that was measured)
and saves cost with priors that are too high (0.45, 0.51 without it: docs/the_search.md)."""
_CANDIDATES = 60
"""Number of candidates from each source for the model. Chosen by hand."""
_MUTATED_DECADES = 0.35
"""Standard deviation of a mutation of the learning rate in decades: about a factor of two. A factor of 1.4 changed
nothing on recorded trainings."""
_MUTATED_SHARE = 0.5
"""Share of the mutations that draw one other field anew."""
_WIDE_SHARE = 0.25
"""Share of draws from the whole space among those without model and mutation."""


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """The settings by which a sampler mixes its sources.

    Attributes:
        model_share: Share of the draws that the model chooses once it has enough trials, in [0, 1].
        mutation_share: Share of the other draws that mutate the best trial so far, in [0, 1].
        uses_prior: Whether priors count: default recipes come first, and draws are around the priors.
        line_search: Whether a learning rate further out follows if an optimizer's best rate is its highest or lowest.
            This applies only if priors count.
        races: Whether trainings are long. If so, the default recipes of all optimizers come before the line searches,
            and the model separates the results of different rungs.

    Raises:
        InputError: A share is outside [0, 1].
    """

    model_share: float = 1.0
    mutation_share: float = 0.5
    uses_prior: bool = True
    line_search: bool = True
    races: bool = False

    def __post_init__(self) -> None:
        for name in ("model_share", "mutation_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"SamplerSettings: {name} must be from 0 to 1, got {getattr(self, name)!r}.")


def propose_without(
    left_out: Collection[str],
    space: Space,
    number: int,
    seed: int,
    observations: Sequence[Observation],
    others: Sequence[Parameters],
    settings: SamplerSettings,
) -> Parameters:
    """Return the parameters of a trial without the `left_out` optimizers; the other arguments are as in `propose`."""
    names = [branch.name for branch in space.optimizers if branch.name not in left_out]
    if not names or len(names) == len(space.optimizers):
        return propose(space, number, seed, observations, others, settings)
    rest = replace(space, optimizers=tuple(branch for branch in space.optimizers if branch.name in names))
    shown = [one for one in observations if one.parameters.get("optimizer") in names]
    tried = [one for one in others if one.get("optimizer") in names]
    if len(names) > 1:
        return propose(rest, number, seed, shown, tried, settings)
    # a space with one optimizer does not name it
    alone = [replace(one, parameters=_without_optimizer(one.parameters)) for one in shown]
    found = propose(rest, number, seed, alone, [_without_optimizer(one) for one in tried], settings)
    return {"optimizer": names[0], **found}


def propose(
    space: Space,
    number: int,
    seed: int,
    observations: Sequence[Observation],
    others: Sequence[Parameters],
    settings: SamplerSettings,
) -> Parameters:
    """Return the parameters of a trial: a pure function of its arguments.

    A space names its safest optimizer first. That one has four trials before the turn of the second, unless several
    trials train at a time. A draw that resembles an earlier trial is drawn again. An earlier configuration is repeated
    only if the space has no other.

    Args:
        space: The search space.
        number: Number of the trial, counted from 0.
        seed: Seed of the search.
        observations: The results of earlier trials.
        others: The parameters of all earlier trials.
        settings: The settings by which the sources are mixed.

    Returns:
        Parameter name -> value, as `sample_recipe` requests them.
    """
    if not settings.uses_prior:
        # the model measures learning rates from their prior centres
        space = without_priors(space)
    has_value = any(one.values for one in observations)
    pending = _pending(observations, others)
    model = GaussianProcess(space, observations, pending, by_rung=settings.races) if has_value else None
    seen = SeenConfigurations(others)
    if settings.uses_prior:
        points = next_points(space, observations) if settings.line_search else []
        if settings.line_search and settings.races:
            points = [*next_points_below(space, observations), *points]
        points = [point for point in points if not seen.contains_similar(point)]
        defaults = _untried_defaults(space, model, observations, others)
        if points and not (defaults and settings.races):
            return points[0]
        if defaults:
            if settings.line_search and not settings.races and _stays_with_first(space, observations, others):
                name, alone, shown, configurations = _first_alone(space, observations, others)
                return {"optimizer": name, **propose(alone, number, seed, shown, configurations, settings)}
            return defaults[0]
    rng = np.random.default_rng((seed, number))
    # the model keeps measuring from the priors, which do not widen
    space = widen_ranges(space, observations, settings.races)
    return draw_new(space, seen, _Draws(space, observations, model, seen, settings, rng).next, rng)


def _untried_defaults(
    space: Space, model: GaussianProcess | None, observations: Sequence[Observation], others: Sequence[Parameters]
) -> list[Parameters]:
    """Return the default recipe of each optimizer without a trial, shifted by the likeliest shift of the priors."""
    configurations = [*others, *(one.parameters for one in observations)]
    tried = {one.get("optimizer", space.optimizers[0].name) for one in configurations if one}
    untried = [index for index, branch in enumerate(space.optimizers) if branch.name not in tried]
    if not untried:
        return []
    shifted = shift_priors(space, model.shift if model else 0.0)
    return [default_parameters(shifted, index) for index in untried]


def _stays_with_first(space: Space, observations: Sequence[Observation], others: Sequence[Parameters]) -> bool:
    """Return whether the first optimizer has another trial before the turn of the second."""
    configurations = [one for one in others if one]
    names = {one.get("optimizer") for one in configurations}
    # while trials are pending, several workers try several optimizers
    if len(names) != 1 or len(configurations) >= TRIALS_OF_FIRST or _pending(observations, others):
        return False
    # a lower rate does not help if there is too little memory
    if not all(one.values or one.diverged_lr is not None for one in observations):
        return False
    return any(branch.name in names and is_searchable(branch.rate) for branch in space.optimizers)


def _first_alone(
    space: Space, observations: Sequence[Observation], others: Sequence[Parameters]
) -> tuple[str, Space, list[Observation], list[Parameters]]:
    """Return the optimizer of all trials so far, and the space and the trials as if no other optimizer existed."""
    name = str(next(one["optimizer"] for one in others if one))
    alone = replace(space, optimizers=tuple(branch for branch in space.optimizers if branch.name == name))
    shown = [replace(one, parameters=_without_optimizer(one.parameters)) for one in observations]
    return name, alone, shown, [_without_optimizer(one) for one in others]


def _without_optimizer(configuration: Mapping[str, Scalar]) -> Parameters:
    """Return the parameters of a trial with their names in a space with one optimizer."""
    return {key: value for key, value in configuration.items() if key != "optimizer"}


def _pending(observations: Sequence[Observation], others: Sequence[Parameters]) -> list[Parameters]:
    """Return the parameters of the trials without a result yet."""
    shown = {configuration_key(one.parameters) for one in observations}
    return [one for one in others if one and configuration_key(one) not in shown]


class _Draws:
    """An endless source of configurations, drawn from a mixture of sources."""

    def __init__(
        self,
        space: Space,
        observations: Sequence[Observation],
        model: GaussianProcess | None,
        seen: SeenConfigurations,
        settings: SamplerSettings,
        rng: np.random.Generator,
    ) -> None:
        self._whole, self._model, self._settings, self._rng = space, model, settings, rng
        self._space = cap_learning_rates(space, observations)
        self._seen = seen
        with_value = [one for one in observations if one.values]
        self._best = observations[best_first(observations, settings.races)[0]] if with_value else None
        self._prior_share = PRIOR_SHARE if settings.uses_prior else 0.0
        self._shift_probabilities = posterior() if model is None else model.shift_probabilities
        self._shifted: dict[float, Space] = {}
        self._asks_model = len(with_value) >= _LEAST_FOR_MODEL and rng.random() < settings.model_share

    def next(self) -> Parameters:
        """Return the next draw. Only one draw asks the model, because the model would repeat its choice."""
        if self._asks_model and self._model is not None:
            self._asks_model = False
            return self._chosen_by(self._model)
        if self._best is not None and self._rng.random() < self._settings.mutation_share:
            return self._mutated(self._best)
        return self._from_anywhere() if self._rng.random() < _WIDE_SHARE else self._from_prior()

    def _chosen_by(self, model: GaussianProcess) -> Parameters:
        sources: list[Callable[[], Parameters]] = [self._from_prior, self._from_anywhere]
        if self._best is not None:
            sources.append(partial(self._mutated, self._best))
        candidates = [draw() for draw in sources for _ in range(_CANDIDATES)]
        new = [one for one in candidates if not self._seen.contains_similar(one)] or candidates
        return new[int(model.expected_improvement(new).argmax())]

    def _from_prior(self) -> Parameters:
        """Draw around the priors after a shift drawn from the posterior."""
        if not self._settings.uses_prior:
            return self._from_anywhere()
        shift = float(self._rng.choice(SHIFTS, p=self._shift_probabilities))
        if shift not in self._shifted:
            self._shifted[shift] = within_ranges(shift_priors(self._whole, shift), self._space)
        return draw_from_prior(self._shifted[shift], self._rng, prior_share=1.0)

    def _from_anywhere(self) -> Parameters:
        return draw_from_prior(self._space, self._rng, prior_share=0.0)

    def _mutated(self, observation: Observation) -> Parameters:
        """Return a trial's parameters with another learning rate and sometimes with one other field drawn anew."""
        best = dict(observation.parameters)
        optimizer, schedule = _branches(self._space, best)
        fresh = draw_from_branches(self._space, optimizer, schedule, self._rng, prior_share=self._prior_share)
        configuration = {name: best.get(name, value) for name, value in fresh.items()}
        rate = f"{optimizer.name}.{optimizer.rate_name}"
        others = [name for name in configuration if name not in ("optimizer", "schedule", rate)]
        others += ["schedule"] * (len(self._space.schedules_of(optimizer)) > 1)
        if others and (rate not in configuration or self._rng.random() < _MUTATED_SHARE):
            name = others[self._rng.integers(len(others))]
            configuration = self._with_other_field(configuration, name, fresh, optimizer)
        return configuration | self._mutated_rate(configuration, rate, optimizer)

    def _with_other_field(
        self, configuration: Parameters, name: str, fresh: Parameters, optimizer: Branch
    ) -> Parameters:
        if name != "schedule":
            return configuration | {name: fresh[name]}
        schedules = self._space.schedules_of(optimizer)
        schedule = schedules[self._rng.integers(len(schedules))]
        drawn = draw_from_branches(self._space, optimizer, schedule, self._rng, prior_share=self._prior_share)
        kept = {name: configuration.get(name, value) for name, value in drawn.items()}
        return kept | {"schedule": schedule.name}

    def _mutated_rate(self, configuration: Parameters, name: str, optimizer: Branch) -> Parameters:
        field, rate = optimizer.rate, configuration.get(name)
        if isinstance(field, Choice) and name in configuration:
            return {name: field.choices[self._rng.integers(len(field.choices))]}
        if not isinstance(field, Range) or not isinstance(rate, int | float) or rate <= 0:
            return {}
        mutated = 10 ** (log10(rate) + self._rng.normal(0, _MUTATED_DECADES))
        return {field.optuna_name(name): field.to_optuna(field.rounded(field.clip(mutated)))}


def _branches(space: Space, configuration: Parameters) -> tuple[Branch, Branch]:
    optimizers = {branch.name: branch for branch in space.optimizers}
    optimizer = optimizers.get(str(configuration.get("optimizer")), space.optimizers[0])
    schedules = {branch.name: branch for branch in space.schedules_of(optimizer)}
    return optimizer, schedules.get(str(configuration.get("schedule")), next(iter(schedules.values())))
