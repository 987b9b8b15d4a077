"""The form of a trial in every chart and table: the colour of its optimizer, its one-line label, and its end."""

from collections.abc import Iterable

from opttune.report.chart import PALETTE
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord


def optimizer_colours(study: FrozenStudy) -> dict[str, str]:
    """Return the tried optimizers, in the order of the space, each with its colour."""
    tried = [record.recipe.optimizer.name for record in study.records if record.recipe]
    order = [branch.name for branch in study.space.optimizers]
    names = sorted(set(tried), key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def trials_of(records: Iterable[TrialRecord], optimizer: str) -> list[TrialRecord]:
    """Return the trials of one optimizer."""
    return [record for record in records if record.recipe and record.recipe.optimizer.name == optimizer]


def trial_label(record: TrialRecord) -> str:
    """Return a trial in one line.

    Example:
        >>> trial_label(TrialRecord(3, "waiting", None, None, None))
        '#3'
    """
    return f"#{record.number} {record.recipe}" if record.recipe else f"#{record.number}"


def how_it_ended(record: TrialRecord) -> str:
    """Return the way a trial ended, as one of five words.

    Example:
        >>> how_it_ended(TrialRecord(0, "waiting", None, None, None))
        'waits'
    """
    if record.value is not None:
        return "finished"
    if record.outcome is None:
        return "waits"
    if has_diverged(record):
        return "diverged"
    return "left behind" if record.outcome.reason.has_value or record.state == "pruned" else "failed"


def has_diverged(record: TrialRecord) -> bool:
    """Return whether a trial's training diverged."""
    return record.outcome is not None and record.outcome.has_diverged


def baseline_value(study: FrozenStudy) -> float | None:
    """Return the baseline's value; None if it was not trained or has no value."""
    return study.baseline.value if study.baseline is not None else None
