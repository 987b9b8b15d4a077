"""Is the guard right? A few of the trials that it would stop go on to the first rung, to see whether they are good.

A rule that would have stopped a trial that ends above the median there is loosened for the study: what was found is
written into it, so that a search that goes on keeps to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import optuna

from opttune.guard.rules import Guard
from opttune.outcome import Outcome, StopReason
from opttune.storages.records import AUDIT
from opttune.study.selection import is_better
from opttune.trial_record import TrialRecord

_LEAST_PEERS = 3
"""The median of fewer says nothing."""
_LOOSER = 2.0
"""What a ratio is multiplied by."""
_STREAM = 20_05
"""Keeps the draws apart from those of the sampler, which are seeded alike."""

Finding = Mapping[str, Any]


def guard_of(guard: Guard | None, record: TrialRecord | None, seed: int, findings: Sequence[Finding]) -> Guard | None:
    """Return the guard of a training.

    Args:
        guard: The search's own.
        record: The trial; None for the module as it came, whose length shall be full though it learns nothing.
        seed: Seed of the search.
        findings: What audits have found so far.
    """
    if guard is None:
        return None
    guard = loosened(guard, findings)
    if record is None:
        return replace(guard, stall=False)
    return replace(guard, only_notes=guard.only_notes or (record.steps == 0 and is_audited(guard, seed, record.number)))


def read_findings(study: optuna.Study) -> list[Finding]:
    """Return what audits of a study have found so far."""
    return list(study.user_attrs.get(AUDIT, ()))


def note_finding(study: optuna.Study, finding: Finding | None) -> None:
    """Write down what a trial says against a rule, if it does; once."""
    if finding is not None:
        others = [other for other in read_findings(study) if other["number"] != finding["number"]]
        study.set_user_attr(AUDIT, [*others, dict(finding)])


def is_audited(guard: Guard, seed: int, number: int) -> bool:
    """Return whether a trial is one of those that blow-up and stall let pass to the first rung.

    Example:
        >>> sum(is_audited(Guard(), 0, number) for number in range(1000))
        51
    """
    return bool(np.random.default_rng((_STREAM, seed, number)).random() < guard.audit_share)


def look_at(record: TrialRecord, outcome: Outcome, records: Sequence[TrialRecord], mode: str) -> Finding | None:
    """Return what a trial says against a rule that it was let pass, or None.

    Args:
        record: The trial, before it was trained.
        outcome: What came of it at the first rung.
        records: All trials.
        mode: `min` or `max`.
    """
    if not outcome.flagged or record.steps or not outcome.reason.has_value:
        return None
    peers = [_at_first_rung(other) for other in records if other.number != record.number]
    values = [value for value in peers if value is not None]
    if len(values) < _LEAST_PEERS or not is_better(outcome.value, median(values), mode):
        return None
    return {
        "number": record.number,
        "rule": outcome.flagged,
        "said": outcome.alarms.partition(";")[0],
        "value": outcome.value,
        "median": median(values),
    }


def loosened(guard: Guard, findings: Sequence[Finding]) -> Guard:
    """Return the guard without what audits have found to be too strict."""
    for finding in findings:
        if finding["rule"] == StopReason.STALL:
            guard = replace(guard, stall=False)
        else:
            ratios = {name: getattr(guard, name) * _LOOSER for name in ("blow_up_ratio", "runaway_ratio")}
            guard = replace(guard, **ratios)
    return guard


def audit_warnings(guard: Guard | None, findings: Sequence[Finding]) -> list[str]:
    """Say what audits have found, and what was done about it, one sentence each."""
    found = []
    for place, finding in enumerate(findings if guard is not None else (), 1):
        now = loosened(guard or Guard(), findings[:place])
        what = (
            "the rule was switched off for this study"
            if finding["rule"] == StopReason.STALL
            else f"blow_up_ratio was loosened to {now.blow_up_ratio:g} and runaway_ratio to {now.runaway_ratio:g}"
        )
        found.append(
            f"the guard's rule {finding['rule']} would have stopped trial {finding['number']}, which ended the first "
            f"rung better than the median ({finding['value']:.5g} against {finding['median']:.5g}): {what}."
        )
    return found


def _at_first_rung(record: TrialRecord) -> float | None:
    return record.pauses[0].value if record.pauses else record.value
