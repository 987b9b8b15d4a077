"""Which fields of the recipes mattered, by PED-ANOVA (Watanabe, Bansal and Hutter 2023).

PED-ANOVA (https://arxiv.org/abs/2304.10255) compares the distribution of each field among the best trials with that
among all of them. This module uses Optuna's implementation with its defaults.
"""

import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

_LEAST_TRIALS = 6
"""Fewer finished trials say nothing. Chosen by hand."""
_LEAST_SHARE = 0.005
"""Fields with a smaller share are left out. Chosen by hand."""


def field_importances(study: optuna.Study, mode: str) -> dict[str, float]:
    """Return how much each field that was sampled mattered for being among the best, the most important first.

    A field of one optimizer counts among the trials that had it. The shares sum to 1.

    Args:
        study: The study.
        mode: `min` or `max`.

    Returns:
        Name of a sampled field -> its share; empty where too few trials finished, or nothing varied.
    """
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.COMPLETE]
    if len(finished) < _LEAST_TRIALS or len({trial.value for trial in finished}) < 2:
        return {}
    sign = 1.0 if mode == "min" else -1.0

    def target(trial: optuna.trial.FrozenTrial) -> float:
        return sign * (trial.value or 0.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)
        except (ValueError, RuntimeError):  # fields that never varied
            return {}
    return {name: share for name, share in found.items() if share >= _LEAST_SHARE}
