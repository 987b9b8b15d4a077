import pytest

from opttune import Guard
from opttune.job import Role, TrainingJob
from opttune.outcome import StopReason
from opttune.recipe import Part, Recipe
from opttune.study.guard_rules import repeats, silenced, to_repeat, without
from opttune.trial_record import TrialRecord
from tests.support.records import make_outcome, make_run, make_trial


def ended(number: int, lr: float, reason: StopReason = StopReason.BLOW_UP, steps: int = 18) -> TrialRecord:
    recipe = Recipe(Part("adamw", {"lr": lr}), Part("constant"))
    value = 0.5 if reason.counts else None
    return make_trial(number, make_outcome(value, reason, steps=steps, stopped_lr=lr), recipe=recipe)


BASELINE = make_run(TrainingJob(None, 0, Role.BASELINE), make_outcome(None, StopReason.BLOW_UP, steps=18))


def test_a_rule_that_also_ends_a_rate_ten_times_lower_is_off_and_says_what_was_seen() -> None:
    assert silenced([ended(0, 0.01), ended(1, 0.002)]) == {}
    (why,) = silenced([ended(0, 0.01), ended(1, 0.001)]).values()
    assert "ended all of the first 2 trials, at learning rates from 0.001 to 0.01" in why
    assert "Guard.finite_only()" in why


@pytest.mark.parametrize("reason", [StopReason.BLOW_UP, StopReason.STALL])
def test_a_rule_that_has_ended_four_trials_is_off_whatever_their_rates(reason: StopReason) -> None:
    records = [ended(number, 0.01, reason) for number in range(4)]
    assert list(silenced(records)) == [reason]
    assert silenced(records[:3]) == {}


def test_a_rule_that_has_ended_the_baseline_as_well_is_off() -> None:
    assert "and the baseline" in silenced([ended(0, 0.01)], [BASELINE])[StopReason.BLOW_UP]


def test_a_rule_stays_on_after_a_trial_that_finished_and_stays_off_before_one() -> None:
    alive = ended(9, 0.1, StopReason.COMPLETED)
    assert silenced([alive, ended(1, 0.01), ended(2, 0.001)]) == {}
    assert list(silenced([ended(0, 0.01), ended(1, 0.001), alive])) == [StopReason.BLOW_UP]


def test_where_losses_broke_lower_rates_may_be_too_high_as_well() -> None:
    assert silenced([ended(0, 1e6, StopReason.NON_FINITE), ended(1, 10.0), ended(2, 1.0)]) == {}


def test_the_one_that_went_furthest_is_repeated_once() -> None:
    records = [ended(0, 0.01), ended(1, 0.003, steps=20), ended(2, 0.001)]
    assert to_repeat(records, [StopReason.BLOW_UP]) == 1
    again = ended(3, 0.003, StopReason.COMPLETED, steps=100)
    assert repeats([*records, again], again) is records[1]
    assert to_repeat([*records, again], [StopReason.BLOW_UP]) == 0


def test_a_guard_without_a_rule() -> None:
    guard = without(Guard(), [StopReason.STALL])
    assert guard is not None
    assert (guard.stall, guard.blow_up) == (False, True)
    assert without(None, [StopReason.STALL]) is None
