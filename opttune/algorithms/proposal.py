"""What to try next: default recipes, line searches, then what a model chooses from mutations, the prior, and the rest.

How far the priors of the learning rates are believed follows from the trials: the model weighs by how many decades
they are off together, and draws from them are moved by such an offset.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log10

import numpy as np

from opttune.algorithms.draws import (
    PRIOR_SHARE,
    Parameters,
    Tried,
    draw_from_branches,
    draw_from_prior,
    draw_new,
    plan_key,
    rounded,
)
from opttune.algorithms.gaussian_process import GaussianProcess
from opttune.algorithms.line_search import follows, next_points
from opttune.algorithms.lr_bounds import cap_learning_rates
from opttune.algorithms.observations import Observation
from opttune.algorithms.prior_shift import OFFSETS, shift_priors, weights, within_ranges, without_priors
from opttune.errors import InputError
from opttune.space.model import Branch, Choice, Range, Scalar, Space
from opttune.space.sample import default_parameters, parameter

_LEAST_FOR_MODEL = 2
"""Below so many trials with a value a model knows nothing that the prior does not."""
_TRIALS_OF_FIRST = 4
"""Before the second optimizer's turn: mostly the default, two of its line search, and one that the model chooses."""
_CANDIDATES = 60
"""Draws of each kind that the model chooses from."""
_MUTATED_DECADES = 0.35
"""Standard deviation of a mutated learning rate, in decades: about a factor of two."""
_MUTATED_SHARE = 0.5
"""How often a mutation draws one of the other fields anew."""
_WIDE_SHARE = 0.25
"""Share of the draws without model and mutation that come from the whole space."""


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How a sampler mixes what it draws from.

    Attributes:
        model_share: Share of the draws that the model chooses, once it knows enough; in [0, 1].
        mutation_share: Share of the others that mutate the best trial so far; in [0, 1].
        uses_prior: Whether priors count at all: default recipes first, and draws around them.
        line_search: Whether a learning rate that is the best of its optimizer, and the highest or the lowest, is
            followed by one that lies further out; only where priors count.

    Raises:
        InputError: A share lies outside [0, 1].
    """

    model_share: float = 1.0
    mutation_share: float = 0.5
    uses_prior: bool = True
    line_search: bool = True

    def __post_init__(self) -> None:
        for name in ("model_share", "mutation_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"SamplerSettings: {name} must be from 0 to 1, got {getattr(self, name)!r}.")


def propose(
    space: Space,
    number: int,
    seed: int,
    observations: Sequence[Observation],
    others: Sequence[Parameters],
    mixture: SamplerSettings,
) -> Parameters:
    """Return the parameters of a trial: a function of its arguments alone.

    First comes the default recipe of each optimizer in turn, its learning rate moved where the trials before say that
    all priors are off, and after each the line search along its learning rate. The first optimizer, which a space names
    first since it is the surest, has four trials before the second has its turn, unless several train at a time. Later
    ones are drawn; one that is like an earlier trial is drawn again, and the same comes a second time only where there
    is no other.

    Args:
        space: What may vary.
        number: Number of the trial, counted from 0.
        seed: Seed of the search.
        observations: What the trials before have shown.
        others: The parameters of all trials before.
        mixture: How the draws are mixed.

    Returns:
        Parameter name -> value, as `sample_recipe` asks for them.
    """
    if not mixture.uses_prior:
        # the model reads learning rates from their prior centres
        space = without_priors(space)
    has_value = any(one.values for one in observations)
    model = GaussianProcess(space, observations, _pending(observations, others)) if has_value else None
    tried = Tried(others)
    if mixture.uses_prior:
        steps = next_points(space, observations) if mixture.line_search else []
        if steps := [step for step in steps if not tried.holds_like(step)]:
            return steps[0]
        if defaults := _defaults(space, model, observations, others):
            if mixture.line_search and _stays_with_first(space, observations, others):
                name, alone, shown, plans = _first_alone(space, observations, others)
                return {"optimizer": name, **propose(alone, number, seed, shown, plans, mixture)}
            return defaults[0]
    rng = np.random.default_rng((seed, number))
    return draw_new(space, tried, _Draws(space, observations, model, tried, mixture, rng).next, rng)


def _defaults(
    space: Space, model: GaussianProcess | None, observations: Sequence[Observation], others: Sequence[Parameters]
) -> list[Parameters]:
    """Return the default recipe of each optimizer that was not tried yet, moved by how much the priors are off."""
    plans = [*others, *(one.parameters for one in observations)]
    tried = {plan.get("optimizer", space.optimizers[0].name) for plan in plans if plan}
    new = [index for index, branch in enumerate(space.optimizers) if branch.name not in tried]
    if not new:
        return []
    moved = shift_priors(space, model.offset if model else 0.0)
    return [default_parameters(moved, index) for index in new]


def _stays_with_first(space: Space, observations: Sequence[Observation], others: Sequence[Parameters]) -> bool:
    """Return whether the first optimizer has another trial before the second one has its turn."""
    plans = [plan for plan in others if plan]
    names = {plan.get("optimizer") for plan in plans}
    # while some are still trained, several workers try several optimizers
    if len(names) != 1 or len(plans) >= _TRIALS_OF_FIRST or _pending(observations, others):
        return False
    # a lower rate is no help where memory is too small
    if not all(one.values or one.diverged_lr is not None for one in observations):
        return False
    return any(branch.name in names and follows(branch.get("lr")) for branch in space.optimizers)


def _first_alone(
    space: Space, observations: Sequence[Observation], others: Sequence[Parameters]
) -> tuple[str, Space, list[Observation], list[Parameters]]:
    """Return the optimizer of all trials so far, and space and trials as if there were no other."""
    name = str(next(plan["optimizer"] for plan in others if plan))
    alone = replace(space, optimizers=tuple(branch for branch in space.optimizers if branch.name == name))
    shown = [replace(one, parameters=_of_one(one.parameters)) for one in observations]
    return name, alone, shown, [_of_one(plan) for plan in others]


def _of_one(plan: Mapping[str, Scalar]) -> Parameters:
    """Return the parameters of a trial as a space with one optimizer names them."""
    return {key: value for key, value in plan.items() if key != "optimizer"}


def _pending(observations: Sequence[Observation], others: Sequence[Parameters]) -> list[Parameters]:
    """Return the parameters of the trials that have shown nothing yet."""
    shown = {plan_key(one.parameters) for one in observations}
    return [plan for plan in others if plan and plan_key(plan) not in shown]


class _Draws:
    """Draws from a mixture, again and again."""

    def __init__(
        self,
        space: Space,
        observations: Sequence[Observation],
        model: GaussianProcess | None,
        tried: Tried,
        mixture: SamplerSettings,
        rng: np.random.Generator,
    ) -> None:
        self._whole, self._model, self._mixture, self._rng = space, model, mixture, rng
        self._space = cap_learning_rates(space, observations)
        self._tried = tried
        # one that went further stands for what it became
        self._best = min((one for one in observations if one.values), key=lambda one: one.values[-1], default=None)
        self._prior_share = PRIOR_SHARE if mixture.uses_prior else 0.0
        self._offsets = weights() if model is None else model.offsets
        self._moved: dict[float, Space] = {}
        living = sum(1 for one in observations if one.values)
        self._asks_model = living >= _LEAST_FOR_MODEL and rng.random() < mixture.model_share

    def next(self) -> Parameters:
        """Return the next draw; the model is asked once, since it would give the same again."""
        if self._asks_model and self._model is not None:
            self._asks_model = False
            return self._chosen_by(self._model)
        if self._best is not None and self._rng.random() < self._mixture.mutation_share:
            return self._mutated(self._best)
        return self._from_anywhere() if self._rng.random() < _WIDE_SHARE else self._from_prior()

    def _chosen_by(self, model: GaussianProcess) -> Parameters:
        kinds: list[Callable[[], Parameters]] = [self._from_prior, self._from_anywhere]
        if self._best is not None:
            kinds.append(partial(self._mutated, self._best))
        candidates = [draw() for draw in kinds for _ in range(_CANDIDATES)]
        new = [plan for plan in candidates if not self._tried.holds_like(plan)] or candidates
        return new[int(model.improvement(new).argmax())]

    def _from_prior(self) -> Parameters:
        """Draw around the priors, moved by as much as the trials say that they may be off."""
        if not self._mixture.uses_prior:
            return self._from_anywhere()
        offset = float(self._rng.choice(OFFSETS, p=self._offsets))
        if offset not in self._moved:
            self._moved[offset] = within_ranges(shift_priors(self._whole, offset), self._space)
        return draw_from_prior(self._moved[offset], self._rng, prior_share=1.0)

    def _from_anywhere(self) -> Parameters:
        return draw_from_prior(self._space, self._rng, prior_share=0.0)

    def _mutated(self, one: Observation) -> Parameters:
        """Return a trial's parameters with another learning rate; now and then one other field is drawn anew."""
        best = dict(one.parameters)
        optimizer, schedule = _branches(self._space, best)
        fresh = draw_from_branches(self._space, optimizer, schedule, self._rng, prior_share=self._prior_share)
        plan = {name: best.get(name, value) for name, value in fresh.items()}
        rate = f"{optimizer.name}.lr"
        others = [name for name in plan if name not in ("optimizer", "schedule", rate)]
        others += ["schedule"] * (len(self._space.schedules) > 1)
        if others and (rate not in plan or self._rng.random() < _MUTATED_SHARE):
            plan = self._with_another(plan, others[self._rng.integers(len(others))], fresh, optimizer)
        return plan | self._moved_rate(plan, rate, optimizer)

    def _with_another(self, plan: Parameters, name: str, fresh: Parameters, optimizer: Branch) -> Parameters:
        if name != "schedule":
            return plan | {name: fresh[name]}
        schedules = self._space.schedules
        schedule = schedules[self._rng.integers(len(schedules))]
        drawn = draw_from_branches(self._space, optimizer, schedule, self._rng, prior_share=self._prior_share)
        return {name: plan.get(name, value) for name, value in drawn.items()} | {"schedule": schedule.name}

    def _moved_rate(self, plan: Parameters, name: str, optimizer: Branch) -> Parameters:
        field, rate = optimizer.get("lr"), plan.get(name)
        if isinstance(field, Choice) and name in plan:
            return {name: field.choices[self._rng.integers(len(field.choices))]}
        if not isinstance(field, Range) or not isinstance(rate, int | float) or rate <= 0:
            return {}
        moved = 10 ** (log10(rate) + self._rng.normal(0, _MUTATED_DECADES))
        return dict([parameter(name, field, rounded(field, min(field.high, max(field.low, moved))))])


def _branches(space: Space, plan: Parameters) -> tuple[Branch, Branch]:
    optimizers = {branch.name: branch for branch in space.optimizers}
    schedules = {branch.name: branch for branch in space.schedules}
    optimizer = optimizers.get(str(plan.get("optimizer")), space.optimizers[0])
    return optimizer, schedules.get(str(plan.get("schedule")), space.schedules[0])
