"""How long trainings are where all of them are to take the same time."""

import pytest

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.study.step_costs import StepCosts

SOAP = Recipe(Part("soap", {"lr": 3e-3}))
ADAMW = Recipe(Part("adamw", {"lr": 3e-4}))
COSTS = StepCosts.of({"baseline": 0.01, "adamw": 0.0109, "sgd": 0.005, "soap": 0.04})


def test_the_baselines_step_costs_one_and_what_noise_explains_costs_as_much() -> None:
    assert COSTS.costs == {"soap": 4.0}
    assert COSTS.share(None) == COSTS.share(ADAMW) == 1.0
    assert COSTS.steps(SOAP, 200) == 50
    assert COSTS.steps(ADAMW, 200) == 200
    assert COSTS.sentences(200) == ["a step of soap takes 4 x the baseline's: in equal time it trains 50 of 200 steps."]


def test_without_a_baseline_the_cheapest_takes_its_place() -> None:
    assert StepCosts.of({"sgd": 0.01, "soap": 0.02}).costs == {"soap": 2.0}


def test_what_was_not_measured_costs_nothing_more() -> None:
    assert StepCosts.of({}) == StepCosts.of({"baseline": 0.0, "soap": 1.0}) == StepCosts()


@pytest.mark.parametrize(
    ("reason", "value", "steps", "counted"),
    [
        (StopReason.PAUSED, 0.5, 17, 70),
        (StopReason.COMPLETED, 0.5, 50, 200),
        (StopReason.NON_FINITE, None, 3, 12),
        (StopReason.INTERRUPTED, None, 0, 0),
    ],
)
def test_steps_are_counted_in_those_of_the_baselines_time(
    reason: StopReason, value: float | None, steps: int, counted: int
) -> None:
    given = Outcome(reason, value, steps, 50, 1.0)
    outcome = COSTS.counted(SOAP, given, until=70, full=200)

    assert (outcome.steps, outcome.total_steps) == (counted, 200)
    # a rung lies between two steps: what was done is known to one step
    assert abs(outcome.optimizer_steps - steps) <= 1
    assert Outcome.from_dict(outcome.to_dict()) == outcome


def test_a_training_of_the_full_length_is_counted_as_it_is() -> None:
    given = Outcome(StopReason.COMPLETED, 0.5, 200, 200, 1.0)

    assert COSTS.counted(ADAMW, given, until=200, full=200) is given


def test_another_length_than_the_searchs_stays_another_one() -> None:
    given = Outcome(StopReason.COMPLETED, 0.5, 80, 80, 1.0)

    assert COSTS.counted(SOAP, given, until=200, full=200).total_steps == 320
