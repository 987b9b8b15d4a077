"""How long trainings are where all of them are to take the same time."""

import pytest

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.study.step_costs import StepCosts, is_baselines

SOAP = Recipe(Part("soap", {"lr": 3e-3}))
ADAMW = Recipe(Part("adamw", {"lr": 3e-4}))
COSTS = StepCosts.of({"baseline": 0.01, "adamw": 0.0109, "sgd": 0.005, "soap": 0.04})


def test_the_baselines_step_costs_one_and_what_noise_explains_costs_as_much() -> None:
    assert COSTS.costs == {"soap": 4.0}
    assert COSTS.share(None) == COSTS.share(ADAMW) == 1.0
    assert COSTS.steps(SOAP, 200) == 50
    assert COSTS.steps(ADAMW, 200) == 200
    assert COSTS.sentences(200) == ["a step of soap takes 4 x the baseline's: in equal time it trains 50 of 200 steps."]


def test_without_a_baseline_the_cheapest_takes_its_place_and_is_named() -> None:
    costs = StepCosts.of({"sgd": 0.01, "soap": 0.02})

    assert costs.costs == {"soap": 2.0}
    assert costs.sentences(200) == ["a step of soap takes 2 x that of sgd: in equal time it trains 100 of 200 steps."]


@pytest.mark.parametrize("name", ["own", "own+own"])
def test_the_modules_own_optimizer_costs_what_the_baseline_does_whatever_was_measured(name: str) -> None:
    # a study of before 2026-12 holds a second measure of it
    costs = StepCosts.of({"baseline": 0.01, name: 0.02, "soap": 0.04})

    assert is_baselines(name)
    assert costs.costs == {"soap": 4.0}
    assert costs.steps(Recipe(Part(name), Part(name)), 200) == 200


def test_an_optimizer_does_at_least_one_step_from_rung_to_rung() -> None:
    costly = StepCosts.of({"baseline": 0.01, "soap": 0.4})
    rungs = (4, 14, 28, 40, 200)

    assert [costly.steps(SOAP, rung) for rung in rungs] == [1, 1, 1, 1, 5]
    assert [costly.steps_at(SOAP, rungs, rung) for rung in rungs] == [1, 2, 3, 4, 5]
    assert [COSTS.steps_at(ADAMW, rungs, rung) for rung in rungs] == list(rungs)


def test_a_training_that_was_interrupted_before_a_rung_has_not_reached_it() -> None:
    costly = StepCosts.of({"baseline": 0.01, "soap": 0.4})
    stopped = Outcome(StopReason.INTERRUPTED, None, 1, 5, 1.0)

    # its step is 40 steps of the baseline's time, and the rung is at 14
    assert costly.counted(SOAP, stopped, until=14, full=200).steps == 14


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
