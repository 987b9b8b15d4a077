"""`OpttunePruner`: safe rungs, for objectives in which a trial cannot pause and pruning is final."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import floor, inf, isfinite
from statistics import median
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from opttune.catalog.lookup import find_schedule
from opttune.errors import InputError, UnknownNameError, shown
from opttune.outcome import StopReason
from opttune.storages.records import OUTCOME, RECIPE, TOTAL_STEPS

_PEERS = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
_LAST_REPORTS = 3
"""Reports whose median is a trial's value at a rung. Chosen by hand."""
# 0.1 x 30 must be 3, whatever floating point makes of it
_ROUNDING = 1e-9


class OpttunePruner(BasePruner):
    """Prunes the worst trials at a few shares of the full length, and nowhere else.

    It is a variant of the median stopping rule (Golovin et al. 2017, "Google Vizier: a service for black-box
    optimization"). That rule stops a trial at any step at which its best value so far is worse than the median of the
    other trials' running averages. Here pruning is final and early ranks say little, so this pruner departs from it:

    - It decides only at a few rungs, and drops a share that grows with them: by default a fifth of the trials at 10%
      of the length, a third at 35% and half at 50%. The shares were chosen by hand; the figures below measure them.
    - A trial's value is the median of its last three reports up to the same share of its length, not its best so far,
      which flatters a noisy metric.
    - It skips a rung within the trial's warmup.

    At its first report at or beyond a rung, a trial is ranked among all trials that reached the rung. It is pruned if
    it is in the share to drop; ties are settled in its favour. NaN ranks worst, and so does a trial that diverged
    earlier. If one report passes several rungs, the last one counts.

    The full length of a trial is its user attribute `opttune.total_steps`, which `TrialCallback` writes, else
    `total_steps`. Trials of different lengths are compared by shares. Call `should_prune` after each report.

    Measured with `python benchmarks/pruner.py ../shared/data` on recorded runs in random orders; in parentheses
    Optuna's MedianPruner with a warmup of 10%, in brackets upper 95% bounds. On DeepOBS's sweeps of learning rates, it
    pruned 70% of the worse half (84%) and 0.0% [3.1%] of the best tenth (29%), and saved 25% of the steps (60%). On
    AlgoPerf, whose runs in a group lie close together, the figures are 60% (77%), 17.7% [22.5%] (43%), and 30% (56%). A
    good recipe that starts slowly can be pruned there.

    Args:
        rungs: Pairs of a share of the full length and the share of trials to drop there, both between 0 and 1,
            in rising order of the first.
        least_peers: Other trials that must have reached a rung before a trial is pruned there, >= 1.
        total_steps: The full length, in the unit of the steps that your objective reports, for example epochs; None if
            the trials have it.

    Raises:
        InputError: An argument is out of range; from `should_prune`, if the full length is unknown.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(pruner=OpttunePruner(total_steps=10))
        >>> for loss in (1, 2, 3, 4, 5, 6):
        ...     trial = study.ask()
        ...     trial.report(loss, step=1)
        >>> trial.should_prune()
        True
    """

    def __init__(
        self,
        *,
        rungs: tuple[tuple[float, float], ...] = ((0.10, 0.2), (0.35, 1 / 3), (0.5, 0.5)),
        least_peers: int = 5,
        total_steps: int | None = None,
    ) -> None:
        _check_rungs(rungs)
        _check_count("least_peers", least_peers)
        if total_steps is not None:
            _check_count("total_steps", total_steps)
        self._rungs = tuple((float(share), float(drop)) for share, drop in rungs)
        self._least_peers, self._total_steps = least_peers, total_steps

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether Optuna should prune a trial at its last report."""
        if trial.last_step is None:
            return False
        total = self._length(trial)
        if total is None:
            raise InputError(
                f"OpttunePruner does not know the full length of trial {trial.number}: give the pruner total_steps, "
                f"in the unit of the reported steps, or train with opttune.TrialCallback, which writes it to the "
                f"trial's user attribute {TOTAL_STEPS!r}."
            )
        rung = self._due_rung(trial, total)
        if rung is None:
            return False
        worse_is_more = 1 if study.direction == StudyDirection.MINIMIZE else -1
        return self._is_dropped(study, trial, rung, trial.last_step / total, worse_is_more)

    def _due_rung(self, trial: FrozenTrial, total: int) -> tuple[float, float] | None:
        steps = sorted(trial.intermediate_values)
        share, before = steps[-1] / total, steps[-2] / total if len(steps) > 1 else -1.0
        if share >= 1:  # pruning would save nothing
            return None
        warmup = _warmup(trial)
        passed = [rung for rung in self._rungs if max(before, warmup) < rung[0] <= share]
        return passed[-1] if passed else None

    def _is_dropped(
        self, study: optuna.Study, trial: FrozenTrial, rung: tuple[float, float], share: float, sign: int
    ) -> bool:
        own = _value(trial.intermediate_values, trial.last_step or 0, sign)
        peers = list(self._peer_values(study, trial, rung[0], share, sign))
        if own is None or len(peers) < self._least_peers:
            return False
        count = len(peers) + 1
        kept = count - floor(rung[1] * count + _ROUNDING)
        return sum(value < own for value in peers) >= kept

    def _peer_values(
        self, study: optuna.Study, trial: FrozenTrial, rung: float, share: float, sign: int
    ) -> Iterator[float]:
        for peer in study.get_trials(deepcopy=False, states=_PEERS):
            total, last = self._length(peer), peer.last_step
            if peer.number == trial.number or total is None or last is None:
                continue
            if last / total <= share and _diverged(peer):
                yield inf
            elif last / total >= rung or peer.state == TrialState.COMPLETE:
                value = _value(peer.intermediate_values, share * total + _ROUNDING * total, sign)
                if value is not None:
                    yield value

    def _length(self, trial: FrozenTrial) -> int | None:
        length = trial.user_attrs.get(TOTAL_STEPS, self._total_steps)
        return length if isinstance(length, int) and length > 0 else None


def _value(reports: Mapping[int, float], until: float, sign: int) -> float | None:
    """Return the median of the last reports up to a step, the smaller the better, or None if there is none."""
    steps = sorted(step for step in reports if step <= until)[-_LAST_REPORTS:]
    values = [sign * reports[step] if isfinite(reports[step]) else inf for step in steps]
    return median(values) if values else None


def _warmup(trial: FrozenTrial) -> float:
    recipe = trial.user_attrs.get(RECIPE)
    schedule = recipe.get("schedule") if isinstance(recipe, Mapping) else None
    if not isinstance(schedule, Mapping):
        return 0.0
    try:
        option = find_schedule(str(schedule.get("name"))).warmup
    except UnknownNameError:
        return 0.0
    share = schedule.get(option.name, option.default) if option else 0.0
    return float(share) if isinstance(share, int | float) else 0.0


def _diverged(trial: FrozenTrial) -> bool:
    if trial.state != TrialState.PRUNED:
        return False
    outcome = trial.user_attrs.get(OUTCOME)
    reason = outcome.get("reason") if isinstance(outcome, Mapping) else None
    told = reason in set(StopReason) and StopReason(reason).is_infeasible
    return told or not isfinite(trial.intermediate_values[trial.last_step or 0])


def _check_rungs(rungs: Any) -> None:
    pairs = isinstance(rungs, tuple | list) and len(rungs) > 0 and all(_is_pair(rung) for rung in rungs)
    if not pairs or any(after[0] <= before[0] for before, after in pairwise(rungs)):
        raise InputError(
            "OpttunePruner: rungs must be pairs of a share of the full length and a share of trials to drop, each "
            f"above 0 and below 1, in rising order, such as ((0.1, 0.2), (0.5, 0.5)); got {shown(rungs)}."
        )


def _is_pair(rung: Any) -> bool:
    return isinstance(rung, tuple | list) and len(rung) == 2 and all(_is_share(number) for number in rung)


def _is_share(number: Any) -> bool:
    return isinstance(number, int | float) and 0 < number < 1


def _check_count(name: str, number: Any) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InputError(f"OpttunePruner: {name} must be a whole number of at least 1, got {shown(number)}.")
