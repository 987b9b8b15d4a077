"""One colour for each optimizer in all charts, and how a trial is named beside a point."""

from opttune.report.chart import PALETTE
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord


def optimizer_colours(study: FrozenStudy) -> dict[str, str]:
    """Return the optimizers that were tried, in the order of the space, each with its colour."""
    tried = [record.recipe.optimizer.name for record in study.records if record.recipe]
    order = [branch.name for branch in study.space.optimizers]
    names = sorted(set(tried), key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def shown_recipe(record: TrialRecord) -> str:
    """Return a trial in one line.

    Example:
        >>> shown_recipe(TrialRecord(3, "waiting", None, None, None))
        '#3'
    """
    return f"#{record.number} {record.recipe}" if record.recipe else f"#{record.number}"
