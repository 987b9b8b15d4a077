"""The rules of the guard that a study has turned off: a rule that ends every trial says nothing about the rate.

This depends only on the records, in the order of the trials, so it is the same after a resumption and for all workers.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from opttune.guard.rules import Guard
from opttune.outcome import StopReason
from opttune.trial_record import TrialRecord

_FIELDS = {StopReason.BLOW_UP: "blow_up", StopReason.STALL: "stall"}
"""The rules that can be wrong, and the settings of the guard that turn them off."""
_TOLD_NOTHING = (StopReason.FAILED, StopReason.OUT_OF_MEMORY, StopReason.INTERRUPTED)
_TEN_TIMES = 9.9
"""Rates that differ by this factor count as ten times apart, up to rounding."""
_MOST_ENDED = 4
"""Number of ended trials in a row that turn a rule off whatever their rates. Chosen by hand."""


def silenced(records: Iterable[TrialRecord], baselines: Iterable[TrialRecord] = ()) -> dict[StopReason, str]:
    """Return the rules that are off for a study, each with a sentence of observations.

    Args:
        records: All trials, in their order.
        baselines: The trainings of the module's own optimizer.
    """
    ended_baselines = {one.outcome.reason for one in baselines if one.outcome is not None}
    ended: dict[StopReason, list[TrialRecord]] = {rule: [] for rule in _FIELDS}
    any_broke = False
    found: dict[StopReason, str] = {}
    for record in records:
        last = record.last
        if last is None or last.reason in _TOLD_NOTHING:
            continue
        if last.reason in ended:
            ended[last.reason].append(record)
        elif not last.has_diverged:
            break
        else:
            # some rates are known to be too high, so lower ones may be too high as well
            any_broke = True
        for rule in _FIELDS.keys() - found.keys():
            if why := _why(rule, ended[rule], rule in ended_baselines, any_broke):
                found[rule] = why
    return {rule: found[rule] for rule in _FIELDS if rule in found}


def _why(rule: StopReason, ended: Sequence[TrialRecord], is_baseline: bool, any_broke: bool) -> str:
    """Return a sentence if a rule is off because it ended these trials while none finished; else empty."""
    if not ended:
        return ""
    rates = [rate for record in ended if (rate := record.rate) is not None]
    of_optimizer = [[one.rate for one in ended if one.optimizer == name and one.rate] for name in optimizers(ended)]
    is_wide = not any_broke and any(own and max(own) >= _TEN_TIMES * min(own) for own in of_optimizer)
    if not (is_wide or is_baseline or len(ended) >= _MOST_ENDED):
        return ""
    count = "the first trial" if len(ended) == 1 else f"all of the first {len(ended)} trials"
    where = f", at learning rates from {min(rates):.3g} to {max(rates):.3g}" if rates else ""
    also = ", and the baseline" if is_baseline else ""
    design = "rises" if rule is StopReason.BLOW_UP else "stays level"
    return (
        f"the guard's rule {rule} ended {count}{where}{also}: it says nothing about the rate and is off for this "
        f"study. If the loss {design} by design, search with guard=opttune.Guard.finite_only()."
    )


def optimizers(records: Iterable[TrialRecord]) -> list[str]:
    """Return the names of the optimizers of some trials, each once."""
    return list(dict.fromkeys(record.optimizer for record in records))


def repeats(records: Sequence[TrialRecord], record: TrialRecord) -> TrialRecord | None:
    """Return the ended trial that another trial repeats; None if the other trial is new."""
    if record.recipe is None or record.auxiliary is not None:
        return None
    return next((one for one in records[: record.number] if was_ended(one) and one.recipe == record.recipe), None)


def was_ended(record: TrialRecord) -> bool:
    """Return whether a rule that can be wrong has ended a trial."""
    return record.outcome is not None and record.outcome.reason in _FIELDS


def first_to_repeat(records: Sequence[TrialRecord], rules: Collection[StopReason], is_last_resort: bool) -> int | None:
    """Return the first ended trial to repeat while no trial has a value; None if there is none.

    An ended trial is repeated once; if nothing else can be tried, as long as the budget lasts.

    Args:
        records: All trials.
        rules: The rules that are off.
        is_last_resort: Whether nothing else can be tried.
    """
    if any(one.is_running for one in records):
        return None
    if is_last_resort:
        return to_repeat(records, (StopReason.BLOW_UP, StopReason.STALL))
    return None if any(repeats(records, one) for one in records) else to_repeat(records, rules)


def other_to_repeat(
    records: Sequence[TrialRecord], rules: Collection[StopReason], valued: Sequence[TrialRecord]
) -> int | None:
    """Return the ended trial of another optimizer to repeat, where a repeated one has a value; None if there is none.

    That value shows that the rule was wrong for the first trials of the other optimizers too.

    Args:
        records: All trials.
        rules: The rules that are off.
        valued: The trials that have a value.
    """
    repeated = [one for one in records if repeats(records, one) is not None]
    if not {one.number for one in repeated} & {one.number for one in valued}:
        return None
    return to_repeat(records, rules, {one.optimizer for one in (*valued, *repeated)})


def to_repeat(
    records: Sequence[TrialRecord], rules: Iterable[StopReason], without_optimizers: Collection[str] = ()
) -> int | None:
    """Return the best of the trials that rules have ended, to repeat without these rules; None if there is none.

    It is the one that went furthest, and the earliest among equals, because the first recipes are the safest.

    Args:
        records: All trials.
        rules: The rules that are off.
        without_optimizers: Optimizers whose trials are not repeated.
    """
    reasons = set(rules)
    repeated = {one.number for record in records if (one := repeats(records, record)) is not None}
    ended = [one for one in records if one.outcome is not None and one.outcome.reason in reasons]
    ended = [one for one in ended if one.optimizer not in without_optimizers]
    left = [one for one in ended if one.number not in repeated and repeats(records, one) is None]
    return min(left, key=lambda one: (-one.steps, one.number)).number if left else None


def without(guard: Guard | None, rules: Iterable[StopReason]) -> Guard | None:
    """Return a guard with some rules turned off."""
    return None if guard is None else replace(guard, **{_FIELDS[rule]: False for rule in rules if rule in _FIELDS})
