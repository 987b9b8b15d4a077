"""opttune's search of long trainings with one part left out.

A search has no switches for its parts: they are replaced where it looks them up, in the process that runs it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any
from unittest.mock import patch

from opttune import api
from opttune.algorithms import rungs, successive_halving
from opttune.algorithms.proposal import SamplerSettings
from opttune.algorithms.rung_peers import RungPeers
from opttune.algorithms.rungs import FOR_LONG_TRAININGS, SuccessiveHalving
from opttune.runtime import policy

Replaced = tuple[object, str, Any]
"""An object, the name of its attribute, and what replaces that."""


def _rungs(halving: SuccessiveHalving) -> Replaced:
    return rungs, "FOR_LONG_TRAININGS", halving


def _sampler(**fields: Any) -> Replaced:
    return api, "SamplerSettings", partial(SamplerSettings, **fields)


def _always(answer: object) -> Callable[..., object]:
    return lambda *given, **named: answer


ABLATIONS: Mapping[str, Sequence[Replaced]] = {
    "ours:no_race": [_rungs(SuccessiveHalving())],
    "ours:no_look": [_rungs(replace(FOR_LONG_TRAININGS, look_share=0.0))],
    "ours:no_last_rung": [
        _rungs(replace(FOR_LONG_TRAININGS, shares=(0.02, 0.1), kept=(0.5, 0.5), kept_of_all=(0.3, 0.3)))
    ],
    "ours:no_line": [_rungs(replace(FOR_LONG_TRAININGS, line_search=False)), _sampler(line_search=False)],
    "ours:no_limit": [(policy, "_MOST_RACED", inf)],
    "ours:no_wait_for_own": [(policy.SearchPolicy, "_would_overtake", _always(False))],
    "ours:no_reserve": [(successive_halving, "_reserve", _always(0))],
    "ours:no_lower_rate": [(successive_halving, "following", _always(None))],
    "ours:no_yardstick": [(RungPeers, "_yardstick", _always(-inf))],
    "ours:no_champion": [(RungPeers, "_is_champion", _always(False))],
    "ours:no_model": [_sampler(model_share=0.0)],
    "ours:no_learning": [_sampler(model_share=0.0, mutation_share=0.0)],
}
"""Method -> what is replaced. `no_wait_for_own` lets trials pass rungs on which the own recipe has not been yet,
`no_lower_rate` leaves out the trial that follows one that gets worse, `no_champion` the passage of an optimizer's best
to the second rung, and `no_yardstick` the comparison with the best finished trial of the same optimizer."""


@contextmanager
def left_out(method: str) -> Iterator[None]:
    """Leave out the part that a method names; a method that is no ablation leaves everything."""
    with ExitStack() as stack:
        for owner, name, replacement in ABLATIONS.get(method, ()):
            stack.enter_context(patch.object(owner, name, replacement))
        yield
