"""opttune's search of long trainings with one part left out, for live searches.

A live search is the user's own `opttune.search`, which has no switches for its parts: they are replaced where the
search looks them up, in the process that runs it.
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
    "ours:no_trend": [_rungs(replace(FOR_LONG_TRAININGS, trend=0.0))],
    "ours:no_line": [_rungs(replace(FOR_LONG_TRAININGS, line_search=False)), _sampler(line_search=False)],
    "ours:no_limit": [(policy, "_MOST_RACED", inf)],
    "ours:no_yardstick": [(policy.SearchPolicy, "_would_overtake", _always(False))],
    "ours:no_reserve": [(successive_halving, "_reserve", _always(0))],
    "ours:no_lower_rate": [(successive_halving, "following", _always(None))],
    "ours:no_champion": [(RungPeers, "_is_champion", _always(False))],
    "ours:no_rival": [(RungPeers, "_rivals_best", _always(False))],
    "ours:no_behind": [(RungPeers, "is_behind", _always(False)), (RungPeers, "_rivals_best", _always(False))],
    "ours:no_model": [_sampler(model_share=0.0)],
    "ours:no_learning": [_sampler(model_share=0.0, mutation_share=0.0)],
}
"""Method -> what is replaced."""


@contextmanager
def left_out(method: str) -> Iterator[None]:
    """Leave out the part that a method names; a method that is no ablation leaves everything."""
    with ExitStack() as stack:
        for owner, name, replacement in ABLATIONS.get(method, ()):
            stack.enter_context(patch.object(owner, name, replacement))
        yield
