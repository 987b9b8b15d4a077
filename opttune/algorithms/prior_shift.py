"""By how many decades the priors of all learning rates may be off together, and a space whose priors are moved so.

A prior that is wrong for one optimizer, since the training is shorter or the batch larger than usual, is wrong for the
others as well.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from opttune.algorithms.draws import rounded
from opttune.space.model import Branch, Range, Space

Array = npt.NDArray[np.float64]

OFFSETS: Array = np.linspace(-3, 3, 25)
"""The offsets that are told apart, in decades."""
_SCALE = 0.5
"""Half of the priors are off by less: a Cauchy distribution, which does not rule out that one is off by far."""
PRIOR_LOGS: Array = -np.log1p((OFFSETS / _SCALE) ** 2)
"""How likely each offset is before any trial, as a logarithm."""


def weights(log_likelihood: Array | float = 0.0) -> Array:
    """Return how likely each of `OFFSETS` is, by Bayes' rule.

    Args:
        log_likelihood: How well each explains what was seen; 0 where nothing was.

    Example:
        >>> float(OFFSETS[weights().argmax()])
        0.0
    """
    logs = PRIOR_LOGS + log_likelihood
    likely = np.exp(logs - logs.max())
    found: Array = likely / likely.sum()
    return found


def shift_priors(space: Space, decades: float) -> Space:
    """Return a space with the priors of all learning rates moved, as far as their ranges go.

    Args:
        space: What may vary.
        decades: How far.
    """
    if decades == 0:
        return space
    return replace(space, optimizers=tuple(_with_moved_prior(branch, 10**decades) for branch in space.optimizers))


def within_ranges(space: Space, bounds: Space) -> Space:
    """Return a space with the ranges of another's learning rates, and its own priors as far as these go.

    Args:
        space: What may vary.
        bounds: The same space with other ranges.
    """
    pairs = zip(space.optimizers, bounds.optimizers, strict=True)
    return replace(space, optimizers=tuple(_bounded(branch, bound) for branch, bound in pairs))


def without_priors(space: Space) -> Space:
    """Return a space whose learning rates have no priors."""
    return replace(space, optimizers=tuple(map(_without_prior, space.optimizers)))


def _with_moved_prior(branch: Branch, factor: float) -> Branch:
    field = branch.get("lr")
    if not isinstance(field, Range) or field.prior is None or field.prior <= 0:
        return branch
    moved = min(field.high, max(field.low, field.prior * factor))
    return _with_rate(branch, replace(field, prior=rounded(field, moved)))


def _bounded(branch: Branch, bound: Branch) -> Branch:
    field, other = branch.get("lr"), bound.get("lr")
    if not isinstance(field, Range) or not isinstance(other, Range):
        return bound
    prior = None if field.prior is None else min(other.high, max(other.low, field.prior))
    return _with_rate(bound, replace(other, prior=prior))


def _without_prior(branch: Branch) -> Branch:
    field = branch.get("lr")
    return _with_rate(branch, replace(field, prior=None)) if isinstance(field, Range) else branch


def _with_rate(branch: Branch, rate: Range) -> Branch:
    return replace(branch, fields=tuple((name, rate if name == "lr" else one) for name, one in branch.fields))
