"""The charts of recipes: the schedules of the best recipes, and the fields that mattered."""

import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from opttune.build.schedule import has_curve, multiplier
from opttune.catalog.lookup import find_schedule
from opttune.report.chart import PALETTE, Chart, Panel, Series
from opttune.report.trials import optimizer_colours
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord

_TOP = 5
_MOST_POINTS = 400
_MOST_FIELDS = 15
_LEAST_TRIALS = 6
"""Fewer finished trials show nothing. Chosen by hand."""
_LEAST_SHARE = 0.005
"""Fields with a smaller share are left out. Chosen by hand."""


def schedules(study: FrozenStudy) -> Chart | None:
    """Draw the learning rates of the best recipes over the steps; None if all follow the metric."""
    best = [record for record in study.ranked if record.recipe and _has_curve(record)][:_TOP]
    series = [_curve(study, record, colour) for record, colour in zip(best, PALETTE, strict=False)]
    if not series:
        return None
    panel = Panel("optimizer step", "learning rate", series, y_log=_is_wide(best))
    return Chart(
        "schedules",
        f"Schedules of the {len(series)} best recipes",
        "The learning rate at each step, from warmup to the end. Different optimizers need different rates, so compare "
        "the shapes.",
        [panel],
    )


def importances(study: FrozenStudy) -> Chart | None:
    """Draw the importance of each field; None if too few trials finished."""
    found = list(field_importances(study.study, study.config.mode).items())[:_MOST_FIELDS]
    if not found:
        return None
    colours = optimizer_colours(study)
    bars = []
    for name, share in found:
        optimizer = name.split(".")[0]
        kind = optimizer if optimizer in colours else "any optimizer"
        label = f"{name}: {share:.0%}"
        bars.append(Series(kind, [share], [name], "spans", colours.get(kind, "#555555"), labels=[label], width=15.0))
    panel = Panel("share of the importance", "", bars, rows=[name for name, _ in found])
    count = sum(record.value is not None for record in study.records)
    return Chart(
        "importances",
        "Which fields mattered",
        f"Importance for being among the best tenth (PED-ANOVA) of {count} finished trainings. The search favoured "
        "good regions, so this shows the difference between the best and the rest, not the importance elsewhere. "
        f"{'With this few trainings it is only a hint.' if count < 20 else ''}".strip(),
        [panel],
    )


def field_importances(study: optuna.Study, mode: str) -> dict[str, float]:
    """Return the importance of each sampled field for being among the best, the most important first.

    The measure is Optuna's PED-ANOVA [1]: the difference between a field's distribution among the best tenth of the
    trials and its distribution among all. A field of one optimizer counts among the trials that had it. The shares sum
    to 1.

    Args:
        study: The study.
        mode: `min` or `max`.

    Returns:
        Name of a sampled field -> its share; empty if too few trials finished, or nothing varied.

    References:
        [1] Watanabe, Bansal, Hutter. PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
        Subspaces. IJCAI 2023. https://arxiv.org/abs/2304.10255
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


def _curve(study: FrozenStudy, record: TrialRecord, colour: str) -> Series:
    assert record.recipe is not None
    factor = multiplier(record.recipe.schedule, study.total_steps)
    peak = record.recipe.optimizer.rate or 1.0
    stride = max(1, study.total_steps // _MOST_POINTS)
    steps = sorted({*range(0, study.total_steps, stride), study.total_steps - 1})
    name = f"#{record.number} {record.recipe.optimizer.name}, {record.recipe.schedule.name}"
    return Series(name, [float(step) for step in steps], [peak * factor(step) for step in steps], "line", colour)


def _has_curve(record: TrialRecord) -> bool:
    if record.recipe is None or len(record.recipe.optimizer.split()) > 1:
        return False
    return has_curve(find_schedule(record.recipe.schedule.name))


def _is_wide(records: list[TrialRecord]) -> bool:
    rates = [lr for r in records if r.recipe and (lr := r.recipe.optimizer.rate) is not None and lr > 0]
    return bool(rates) and max(rates) / min(rates) > 30
