"""What to try next: default recipes, then a mixture of a model, mutations of the best, the prior, and all the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from math import erf, exp, log10, pi, sqrt

import numpy as np

from opttune.errors import InputError
from opttune.searching.evidence import Evidence
from opttune.searching.prior import (
    Parameters,
    Tried,
    draw_from_branches,
    draw_from_prior,
    draw_unlike,
    prior_width,
    rounded,
)
from opttune.searching.stable_rates import within_stable_rates
from opttune.searching.surrogate import Surrogate
from opttune.space.model import Branch, Choice, Range, Space
from opttune.space.sample import default_parameters, parameter

_LEAST_FOR_MODEL = 3
"""Below so many trials with a value a model knows nothing that the prior does not."""
_CANDIDATES = 60
"""Draws of each kind that the model chooses from."""
_MUTATED_DECADES = 0.35
"""Standard deviation of a mutated learning rate, in decades: about a factor of two."""
_MUTATED_SHARE = 0.5
"""How often a mutation draws one of the other fields anew."""
_WIDE_SHARE = 0.25
"""Share of the draws without model and mutation that come from the whole space."""
_FIRST_TRUST, _LEAST_TRUST, _MOST_TRUST = 0.7, 0.2, 0.9
_JUDGES = 3
"""So many of the best trials say whether the prior is right."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a sampler mixes what it draws from.

    Attributes:
        model_share: Share of the draws that the model chooses, once it knows enough; in [0, 1].
        mutation_share: Share of the others that mutate the best trial so far; in [0, 1].
        uses_prior: Whether priors count at all: default recipes first, and draws around them.

    Raises:
        InputError: A share lies outside [0, 1].
    """

    model_share: float = 0.5
    mutation_share: float = 0.5
    uses_prior: bool = True

    def __post_init__(self) -> None:
        for name in ("model_share", "mutation_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"Mixture: {name} must be from 0 to 1, got {getattr(self, name)!r}.")


def propose(
    space: Space,
    number: int,
    seed: int,
    evidence: Sequence[Evidence],
    others: Sequence[Parameters],
    mixture: Mixture,
) -> Parameters:
    """Return the parameters of a trial: a function of its arguments alone.

    Trial `k` of the first ones is the default recipe of optimizer `k`. Later ones are drawn; one that is like an
    earlier trial is drawn again, and the same comes a second time only where there is no other.

    Args:
        space: What may vary.
        number: Number of the trial, counted from 0.
        seed: Seed of the search.
        evidence: What the trials before have shown.
        others: The parameters of all trials before.
        mixture: How the draws are mixed.

    Returns:
        Parameter name -> value, as `sample_recipe` asks for them.
    """
    if mixture.uses_prior and number < len(space.optimizers):
        return default_parameters(space, number)
    rng = np.random.default_rng((seed, number))
    tried = Tried(others)
    return draw_unlike(space, tried, _Draws(space, evidence, tried, mixture, rng).next, rng)


def prior_trust(space: Space, evidence: Sequence[Evidence]) -> float:
    """Return how far the best trials so far speak for the priors of the learning rates: 0.2 (not) to 0.9.

    Bayes' rule between two stories of where the best trials' rates come from: the prior, or the whole range evenly.

    Args:
        space: What varies, with the priors.
        evidence: What the trials have shown.
    """
    branches = {branch.name: branch for branch in space.optimizers}
    odds = _FIRST_TRUST / (1 - _FIRST_TRUST)
    for one in _best(evidence, _JUDGES):
        branch = branches.get(str(one.parameters.get("optimizer", space.optimizers[0].name)))
        odds *= 1.0 if branch is None else _prior_density(branch, one)
    return min(_MOST_TRUST, max(_LEAST_TRUST, odds / (1 + odds)))


def _prior_density(branch: Branch, one: Evidence) -> float:
    """Return how much likelier a trial's learning rate is under its prior than under the whole range."""
    field, rate = branch.get("lr"), one.parameters.get(f"{branch.name}.lr")
    if not isinstance(field, Range) or field.prior is None or not isinstance(rate, int | float):
        return 1.0
    centre, place = field.place(field.prior), field.place(min(field.high, max(field.low, rate)))
    width = prior_width(field)
    inside = (erf((1 - centre) / width / sqrt(2)) + erf(centre / width / sqrt(2))) / 2
    return exp(-(((place - centre) / width) ** 2) / 2) / (width * sqrt(2 * pi) * inside)


class _Draws:
    """Draws from a mixture, again and again."""

    def __init__(
        self,
        space: Space,
        evidence: Sequence[Evidence],
        tried: Tried,
        mixture: Mixture,
        rng: np.random.Generator,
    ) -> None:
        if not mixture.uses_prior:
            # the model reads learning rates from their prior centres
            space = replace(space, optimizers=tuple(map(_without_prior, space.optimizers)))
        self._whole, self._evidence, self._mixture, self._rng = space, evidence, mixture, rng
        self._space = space = within_stable_rates(space, evidence)
        self._tried = tried
        self._incumbents = _best(evidence, 1)
        self._trust = prior_trust(self._whole, evidence) if mixture.uses_prior else 0.0
        self._moved = _moved_priors(space, self._incumbents)
        living = sum(1 for one in evidence if one.values)
        self._asks_model = living >= _LEAST_FOR_MODEL and rng.random() < mixture.model_share

    def next(self) -> Parameters:
        """Return the next draw; the model is asked once, since it would give the same again."""
        if self._asks_model:
            self._asks_model = False
            return self._chosen_by_model()
        if self._incumbents and self._rng.random() < self._mixture.mutation_share:
            return self._mutated()
        return self._from_anywhere() if self._rng.random() < _WIDE_SHARE else self._from_prior()

    def _chosen_by_model(self) -> Parameters:
        kinds: tuple[Callable[[], Parameters], ...] = (self._from_prior, self._from_anywhere, self._mutated)
        candidates = [draw() for draw in kinds for _ in range(_CANDIDATES)]
        new = [plan for plan in candidates if not self._tried.holds_like(plan)] or candidates
        improvement = Surrogate(self._whole, self._evidence).improvement(new)
        return new[int(improvement.argmax())]

    def _from_prior(self) -> Parameters:
        """Draw around the priors, or around where the best trial says that they should be."""
        if not self._mixture.uses_prior:
            return self._from_anywhere()
        space = self._space if self._rng.random() < self._trust else self._moved
        return draw_from_prior(space, self._rng, prior_share=1.0)

    def _from_anywhere(self) -> Parameters:
        return draw_from_prior(self._space, self._rng, prior_share=0.0)

    def _mutated(self) -> Parameters:
        """Return the best trial's parameters with another learning rate; now and then one other field is drawn anew."""
        best = dict(self._incumbents[0].parameters)
        optimizer, schedule = _branches(self._space, best)
        fresh = draw_from_branches(self._space, optimizer, schedule, self._rng, prior_share=self._trust)
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
        drawn = draw_from_branches(self._space, optimizer, schedule, self._rng, prior_share=self._trust)
        return {name: plan.get(name, value) for name, value in drawn.items()} | {"schedule": schedule.name}

    def _moved_rate(self, plan: Parameters, name: str, optimizer: Branch) -> Parameters:
        field, rate = optimizer.get("lr"), plan.get(name)
        if isinstance(field, Choice) and name in plan:
            return {name: field.choices[self._rng.integers(len(field.choices))]}
        if not isinstance(field, Range) or not isinstance(rate, int | float) or rate <= 0:
            return {}
        moved = 10 ** (log10(rate) + self._rng.normal(0, _MUTATED_DECADES))
        return dict([parameter(name, field, rounded(field, min(field.high, max(field.low, moved))))])


def _moved_priors(space: Space, incumbents: Sequence[Evidence]) -> Space:
    """Return the space with every prior of a learning rate moved as far as the best trial's lies from its own.

    A prior that is wrong for one optimizer, since the training is shorter or the batch larger than usual, is wrong for
    the others as well.
    """
    if not incumbents:
        return space
    branch, _ = _branches(space, dict(incumbents[0].parameters))
    field, rate = branch.get("lr"), incumbents[0].parameters.get(f"{branch.name}.lr")
    if not isinstance(field, Range) or not isinstance(rate, int | float) or min(rate, field.centre) <= 0:
        return space
    factor = rate / field.centre
    return replace(space, optimizers=tuple(_with_moved_prior(one, factor) for one in space.optimizers))


def _with_moved_prior(branch: Branch, factor: float) -> Branch:
    field = branch.get("lr")
    if not isinstance(field, Range) or field.prior is None:
        return branch
    return _with_prior(branch, field, min(field.high, max(field.low, field.prior * factor)))


def _without_prior(branch: Branch) -> Branch:
    field = branch.get("lr")
    return _with_prior(branch, field, None) if isinstance(field, Range) else branch


def _with_prior(branch: Branch, field: Range, prior: float | None) -> Branch:
    rate = replace(field, prior=prior)
    return replace(branch, fields=tuple((name, rate if name == "lr" else one) for name, one in branch.fields))


def _branches(space: Space, plan: Parameters) -> tuple[Branch, Branch]:
    optimizers = {branch.name: branch for branch in space.optimizers}
    schedules = {branch.name: branch for branch in space.schedules}
    optimizer = optimizers.get(str(plan.get("optimizer")), space.optimizers[0])
    return optimizer, schedules.get(str(plan.get("schedule")), space.schedules[0])


def _best(evidence: Sequence[Evidence], count: int) -> list[Evidence]:
    """Return the best trials that live, the best first: those that went furthest stand for the others."""
    return nsmallest(count, (one for one in evidence if one.values), key=lambda one: one.values[-1])
