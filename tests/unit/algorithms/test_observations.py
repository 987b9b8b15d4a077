from collections.abc import Mapping
from math import nan
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from opttune.algorithms.observations import Observation, read_observations, scores
from opttune.outcome import StopReason
from opttune.storages.open_storage import quiet_optuna
from opttune.storages.records import OUTCOME, RUNGS
from tests.support.records import make_outcome

MIN, MAX = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
PARAMETERS = {"lr": 0.5}


def make(state: TrialState, value: float | None = None, **more: Any) -> FrozenTrial:
    distributions: dict[str, BaseDistribution] = {"lr": FloatDistribution(0, 1)}
    return create_trial(state=state, value=value, params=PARAMETERS, distributions=distributions, **more)


def outcome(reason: StopReason, value: float | None, steps: int) -> dict[str, Any]:
    return make_outcome(value, reason, steps=steps).to_dict()


def pauses(*values: float) -> list[dict[str, Any]]:
    return [outcome(StopReason.PAUSED, value, 10 * (place + 1)) for place, value in enumerate(values)]


def ours(state: TrialState, value: float | None, attributes: Mapping[str, Any]) -> FrozenTrial:
    return make(state, value, user_attrs=dict(attributes))


FINISHED = ours(TrialState.COMPLETE, 0.3, {RUNGS: pauses(0.9, 0.5), OUTCOME: outcome(StopReason.COMPLETED, 0.3, 100)})
PAUSED = ours(TrialState.RUNNING, None, {RUNGS: pauses(0.9)})
OUTRANKED = ours(TrialState.PRUNED, 0.9, {RUNGS: pauses(0.9), OUTCOME: outcome(StopReason.OUTRANKED, 0.9, 10)})
DIED = ours(TrialState.PRUNED, 2e9, {OUTCOME: outcome(StopReason.NON_FINITE, None, 25)})
DIED_LATE = ours(TrialState.PRUNED, 2e9, {RUNGS: pauses(0.9), OUTCOME: outcome(StopReason.BLOW_UP, None, 25)})
FAILED = ours(TrialState.FAIL, None, {RUNGS: pauses(0.9), OUTCOME: outcome(StopReason.FAILED, None, 25)})
WAITING = ours(TrialState.WAITING, None, {RUNGS: pauses(0.9)})
FRESH = make(TrialState.RUNNING)


def read(trial: FrozenTrial, direction: StudyDirection = MIN) -> Observation | None:
    found = read_observations([trial], direction)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("trial", "values"),
    [(FINISHED, (0.9, 0.5, 0.3)), (PAUSED, (0.9,)), (OUTRANKED, (0.9,)), (WAITING, (0.9,))],
    ids=["finished", "paused", "outranked", "waiting"],
)
def test_a_trial_of_a_search_shows_its_value_at_each_rung(trial: FrozenTrial, values: tuple[float, ...]) -> None:
    assert read(trial) == Observation(PARAMETERS, values)


@pytest.mark.parametrize("trial", [DIED, DIED_LATE], ids=["at once", "after a rung"])
def test_a_trial_that_the_guard_stopped_shows_when_it_died(trial: FrozenTrial) -> None:
    assert read(trial) == Observation(PARAMETERS, failed_at=0.25)


@pytest.mark.parametrize("trial", [FAILED, FRESH], ids=["failed", "fresh"])
def test_a_trial_that_failed_or_has_no_value_yet_shows_nothing(trial: FrozenTrial) -> None:
    assert read(trial) is None


def test_where_more_is_better_values_turn_their_sign() -> None:
    assert read(FINISHED, MAX) == Observation(PARAMETERS, (-0.9, -0.5, -0.3))
    assert read(DIED, MAX) == Observation(PARAMETERS, failed_at=0.25)


def test_every_trial_is_read_in_its_place() -> None:
    found = read_observations([FINISHED, FAILED, DIED, PAUSED], MIN)

    assert [(one.values, one.failed_at) for one in found] == [((0.9, 0.5, 0.3), None), ((), 0.25), ((0.9,), None)]


def test_a_study_of_the_users_own_shows_what_optuna_knows() -> None:
    with quiet_optuna():
        study = optuna.create_study(direction="maximize")
    complete, pruned, silent, failed, running = (study.ask() for _ in range(5))
    for trial in (complete, pruned, silent, failed, running):
        trial.suggest_float("lr", 0, 1)
    complete.report(0.2, 1)
    study.tell(complete, 0.7)
    for step, value in enumerate([0.1, 0.4]):
        pruned.report(value, step)
    study.tell(pruned, state=TrialState.PRUNED)
    study.tell(silent, state=TrialState.PRUNED)
    failed.report(0.9, 1)
    study.tell(failed, state=TrialState.FAIL)
    running.report(0.3, 1)

    # a pruned trial's value is its last report
    expected = [Observation(complete.params, (-0.7,)), Observation(pruned.params, (-0.4,))]
    assert read_observations(study.get_trials(), study.direction) == expected


def test_a_value_that_is_no_number_is_passed_over() -> None:
    trial = make(TrialState.PRUNED, intermediate_values={1: nan})

    assert read_observations([trial], MIN) == []


def order(*observations: Observation) -> list[int]:
    """Return the places of trials, the best first, the earliest of equals first."""
    found = scores(observations)
    return sorted(range(len(observations)), key=lambda index: (found[index], index))


def lived(*values: float) -> Observation:
    return Observation({}, values)


def test_the_value_in_hand_counts_whatever_the_rung() -> None:
    assert order(lived(0.9, 0.5, 0.4), lived(0.3), lived(0.2, 0.6)) == [1, 0, 2]


def test_those_that_died_come_last() -> None:
    found = scores([Observation({}, failed_at=0.9), lived(1e12), lived(1.0), lived(0.5)])

    assert found[0] == max(found)
    assert found[3] == min(found)


def test_bad_trials_are_alike_and_good_ones_are_not() -> None:
    found = scores([lived(float(number)) for number in range(20)])

    assert len(set(found[:10])) == 10
    assert found[-1] == found[-2] == max(found)


def test_no_trials_have_no_scores() -> None:
    assert scores([]) == []
    assert len(scores([lived(1.0)])) == 1


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3), max_size=30), st.integers(0, 5))
def test_scores_are_bounded_and_never_contradict_the_values(values: list[list[float]], dead: int) -> None:
    observations = [
        *(lived(*one) for one in values),
        *(Observation({}, failed_at=number / 10) for number in range(dead)),
    ]
    found = scores(observations)

    assert all(-4 < score <= 0.5 for score in found)
    for one, score in zip(values, found, strict=False):
        for other, than in zip(values, found, strict=False):
            assert score <= than or one[-1] >= other[-1]
