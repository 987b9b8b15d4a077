from dataclasses import replace
from math import inf

import pytest

from opttune.algorithms.line_search import LinePoint, is_being_searched, next_points, next_rate, widen_ranges
from opttune.algorithms.observations import Observation
from opttune.algorithms.rungs import TrialProgress
from opttune.space.model import Choice, Field, Fixed, Range
from tests.support.searches import make_space

RATE = Range(1e-5, 1.0, "log", prior=1e-3)
TWO = make_space("""
optimizer:
  sgd: {lr: {low: 1e-5, high: 10.0, log: true, prior: 1e-2, source: test}}
  adamw: {lr: {low: 1e-6, high: 1.0, log: true, prior: 1e-3, source: test}}
schedule: {constant: {}, linear: {}}
""")


def points(**values: float) -> list[LinePoint]:
    """`e3=0.5` is a rate of 1e-3 that gave 0.5."""
    return [LinePoint(10.0 ** -int(name[1:]), value) for name, value in values.items()]


def test_the_first_step_leads_up() -> None:
    assert next_rate(RATE, points(e3=0.5)) == 1e-2


def test_it_continues_as_long_as_it_gets_better() -> None:
    assert next_rate(RATE, points(e3=0.5, e2=0.4)) == 0.1
    assert next_rate(RATE, points(e3=0.5, e2=0.6)) == 1e-4
    assert next_rate(RATE, points(e3=0.5, e2=0.6, e4=0.4)) == 1e-5


def test_it_ends_where_the_best_lies_between_others() -> None:
    assert next_rate(RATE, points(e3=0.5, e2=0.6, e4=0.6)) is None
    assert next_rate(RATE, points(e3=0.5, e2=0.4, e1=inf)) is None


def test_it_ends_at_the_ends_of_the_range() -> None:
    assert next_rate(RATE, points(e3=0.5, e0=0.4)) is None
    assert next_rate(RATE, points(e3=0.5, e5=0.4)) is None
    assert next_rate(RATE, [LinePoint(0.5, 0.4), LinePoint(0.4, 0.5)]) == 1.0
    assert next_rate(RATE, [LinePoint(0.9, 0.4), LinePoint(0.8, 0.5)]) is None


def test_a_range_that_a_step_leaves_is_followed_to_its_end() -> None:
    narrow = Range(1e-4, 5e-4, "log", prior=3e-4)

    assert next_rate(narrow, [LinePoint(3e-4, 0.5)]) == 5e-4
    assert next_rate(narrow, [LinePoint(3e-4, 0.5), LinePoint(5e-4, 0.6)]) == 1e-4


def test_where_all_died_there_is_no_step() -> None:
    assert next_rate(RATE, points(e3=inf)) is None
    assert next_rate(RATE, []) is None


@pytest.mark.parametrize(
    "field",
    [None, Fixed(1e-3), Choice((1e-3, 1e-2)), Range(1e-5, 1.0, "log"), Range(0.1, 1.0, prior=0.5)],
    ids=["left to the catalog", "fixed", "choices", "without a prior", "not by decades"],
)
def test_other_fields_have_no_line(field: Field | None) -> None:
    assert next_rate(field, points(e3=0.5)) is None


def test_a_step_is_the_best_of_the_optimizer_with_another_rate() -> None:
    good = {"optimizer": "sgd", "sgd.lr": 1e-2, "schedule": "linear"}
    bad = {"optimizer": "sgd", "sgd.lr": 1e-3, "schedule": "constant"}
    dead = {"optimizer": "adamw", "adamw.lr": 1e-3, "schedule": "constant"}
    observations = [Observation(good, (0.4, 0.3)), Observation(bad, (0.5,)), Observation(dead, failed_at=0.01)]

    assert next_points(TWO, observations) == [{**good, "sgd.lr": 0.1}]


def test_the_first_rung_counts_whoever_went_further() -> None:
    low = Observation({"optimizer": "sgd", "sgd.lr": 1e-2}, (0.5, 0.1))
    high = Observation({"optimizer": "sgd", "sgd.lr": 0.1}, (0.4,))

    assert next_points(TWO, [low, high]) == [{"optimizer": "sgd", "sgd.lr": 1.0}]


def trial(number: int, optimizer: str, rate: float | None, *values: float) -> TrialProgress:
    return TrialProgress(number, values, 10, is_paused=True, optimizer=optimizer, rate=rate)


def test_an_optimizer_is_searched_once_its_second_trial_is_there() -> None:
    first, second = trial(0, "sgd", 1e-2, 0.5), trial(1, "sgd", 0.1, 0.4)

    assert not is_being_searched(TWO, [first], "sgd")
    assert is_being_searched(TWO, [first, second], "sgd")
    assert not is_being_searched(TWO, [first, second, trial(2, "sgd", 1.0)], "sgd")
    assert is_being_searched(TWO, [first, second, trial(2, "adamw", 1.0, 0.3)], "sgd")
    assert not is_being_searched(TWO, [first, second, trial(2, "adamw", 1.0, 0.3)], "adamw")


def test_what_is_not_of_the_space_is_not_searched() -> None:
    own = [trial(0, "", None, 0.5), trial(1, "", None, 0.4)]
    others = [trial(2, "lion", 1e-4, 0.5), trial(3, "lion", 1e-3, 0.4)]

    assert not any(is_being_searched(TWO, [*own, *others], name) for name in ("", "lion", "sgd"))


def test_a_line_search_goes_beyond_the_range_as_far_as_it_reaches() -> None:
    field = Range(1e-5, 1e-4, "log", prior=3e-5, reach=(1e-6, 1e-2))

    assert next_rate(field, [LinePoint(3e-5, 0.5)]) == 3e-4
    assert next_rate(field, [LinePoint(3e-5, 0.5), LinePoint(3e-4, 0.4)]) == 3e-3
    assert next_rate(field, [LinePoint(3e-5, 0.5), LinePoint(3e-4, 0.4), LinePoint(3e-3, 0.3)]) == 1e-2
    assert next_rate(field, [LinePoint(3e-5, 0.5), LinePoint(3e-4, 0.6)]) == 3e-6
    assert next_rate(Range(1e-5, 1e-4, "log", prior=3e-5), [LinePoint(1e-4, 0.4), LinePoint(3e-5, 0.5)]) is None


BEYOND = make_space("""
optimizer:
  sgd: {lr: {low: 0.1, high: 1.0, log: true, prior: 0.3, reach: [1e-4, 50], source: test}}
  adamw: {lr: {low: 1e-3, high: 1e-2, log: true, prior: 3e-3, source: test}}
schedule: {constant: {}}
""")


def tried(optimizer: str, *results: tuple[float, float | None]) -> list[Observation]:
    """Each result is a rate and its value; None is a trial that died."""
    named = [({"optimizer": optimizer, f"{optimizer}.lr": rate}, value) for rate, value in results]
    return [Observation(one, (), 0.1) if value is None else Observation(one, (value,)) for one, value in named]


def bounds(observations: list[Observation], by_rung: bool = False) -> list[tuple[float, float]]:
    fields = [branch.rate for branch in widen_ranges(BEYOND, observations, by_rung).optimizers]
    return [(field.low, field.high) for field in fields if isinstance(field, Range)]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        # the next rate was tried, and was worse or died
        ([(0.3, 0.5), (3.0, 0.4), (30.0, 0.6)], (0.1, 30.0)),
        ([(0.3, 0.5), (3.0, 0.4), (30.0, None)], (0.1, 30.0)),
        # nothing above it was tried, or only what is almost the same rate
        ([(0.3, 0.5), (3.0, 0.4)], (0.1, 30.0)),
        ([(0.3, 0.5), (3.0, 0.4), (3.1, 0.6)], (0.1, 30.0)),
        # not beyond its reach
        ([(0.3, 0.5), (30.0, 0.4)], (0.1, 50.0)),
        ([(0.3, 0.5), (0.03, 0.4), (0.003, 0.45)], (0.003, 1.0)),
        ([(0.3, 0.5), (3e-4, 0.4)], (1e-4, 1.0)),
    ],
)
def test_a_range_widens_to_the_values_around_the_best_beyond_it(
    results: list[tuple[float, float | None]], expected: tuple[float, float]
) -> None:
    assert bounds(tried("sgd", *results)) == [pytest.approx(expected), (1e-3, 1e-2)]


def test_a_range_stays_where_no_value_beyond_it_is_the_best() -> None:
    assert widen_ranges(BEYOND, []) == BEYOND
    assert widen_ranges(BEYOND, tried("sgd", (0.3, 0.5), (3.0, 0.6))) == BEYOND
    assert widen_ranges(BEYOND, tried("sgd", (3.0, None))) == BEYOND
    # a wall
    assert widen_ranges(BEYOND, tried("adamw", (0.1, 0.1))) == BEYOND
    assert widen_ranges(BEYOND, [Observation({"optimizer": "lion", "lion.lr": 7.0}, (0.1,))]) == BEYOND
    assert widen_ranges(BEYOND, [Observation({"optimizer": "sgd"}, (0.1,))]) == BEYOND


def test_each_optimizers_own_best_counts_and_in_a_race_by_its_furthest_rung() -> None:
    assert bounds([*tried("adamw", (3e-3, 0.1)), *tried("sgd", (3.0, 0.9))])[0] == pytest.approx((0.1, 30.0))
    far, near = tried("sgd", (3.0, 0.4), (0.3, 0.3))
    promoted = [replace(far, values=(0.4, 0.35)), near]
    assert bounds(promoted) == bounds(promoted, by_rung=True) == [(0.1, 1.0), (1e-3, 1e-2)]
    overfitting = [replace(far, values=(0.2, 0.35)), replace(near, values=(0.3,))]
    assert bounds(overfitting)[0] == (0.1, 1.0)
    assert bounds(overfitting, by_rung=True)[0] == pytest.approx((0.1, 30.0))


def test_a_space_of_one_optimizer_does_not_name_it() -> None:
    alone = replace(BEYOND, optimizers=BEYOND.optimizers[:1])
    (branch,) = widen_ranges(alone, [Observation({"sgd.lr": 3.0}, (0.5,))]).optimizers
    assert isinstance(branch.rate, Range)
    assert (branch.rate.high, branch.rate.prior, branch.rate.reach) == (pytest.approx(30.0), 0.3, (1e-4, 50))
