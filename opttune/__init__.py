"""opttune: tune the optimizer and the learning-rate schedule of any PyTorch Lightning module.

Users import from here. Each name is loaded at its first use, so `import opttune` and `opttune --help` load neither
torch nor mlflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from opttune.version import __version__

if TYPE_CHECKING:
    from opttune.api import search
    from opttune.catalog import OptimizerInfo, OptionInfo, ScheduleInfo, register_optimizer, register_schedule
    from opttune.confirming.confirm import confirm
    from opttune.confirming.verdict import Verdict
    from opttune.errors import OpttuneError
    from opttune.guard.callback import GuardCallback
    from opttune.guard.rules import Guard
    from opttune.integration.pruner import OpttunePruner
    from opttune.integration.sampler import OpttuneSampler
    from opttune.integration.trial_callback import TrialCallback
    from opttune.outcome import Outcome, StopReason
    from opttune.recipe import Recipe
    from opttune.space.parse import load_space
    from opttune.space.recipe_file import load_recipe
    from opttune.study.result import SearchResult
    from opttune.tracking.settings import Tracking
    from opttune.training.recipe_callback import RecipeCallback

_HOMES = {
    "Guard": "opttune.guard.rules",
    "GuardCallback": "opttune.guard.callback",
    "OptimizerInfo": "opttune.catalog",
    "OptionInfo": "opttune.catalog",
    "OpttuneError": "opttune.errors",
    "OpttunePruner": "opttune.integration.pruner",
    "OpttuneSampler": "opttune.integration.sampler",
    "Outcome": "opttune.outcome",
    "Recipe": "opttune.recipe",
    "RecipeCallback": "opttune.training.recipe_callback",
    "ScheduleInfo": "opttune.catalog",
    "SearchResult": "opttune.study.result",
    "StopReason": "opttune.outcome",
    "Tracking": "opttune.tracking.settings",
    "TrialCallback": "opttune.integration.trial_callback",
    "Verdict": "opttune.confirming.verdict",
    "confirm": "opttune.confirming.confirm",
    "load_recipe": "opttune.space.recipe_file",
    "load_space": "opttune.space.parse",
    "register_optimizer": "opttune.catalog",
    "register_schedule": "opttune.catalog",
    "search": "opttune.api",
}

__all__ = [
    "Guard",
    "GuardCallback",
    "OptimizerInfo",
    "OptionInfo",
    "OpttuneError",
    "OpttunePruner",
    "OpttuneSampler",
    "Outcome",
    "Recipe",
    "RecipeCallback",
    "ScheduleInfo",
    "SearchResult",
    "StopReason",
    "Tracking",
    "TrialCallback",
    "Verdict",
    "__version__",
    "confirm",
    "load_recipe",
    "load_space",
    "register_optimizer",
    "register_schedule",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'opttune' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
