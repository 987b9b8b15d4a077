import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from opttune.algorithms.draws import (
    PRIOR_DECADES,
    PRIOR_SHARE,
    PRIOR_WIDTH,
    Parameters,
    SeenConfigurations,
    coarse_key,
    configuration_key,
    count_configurations,
    draw_field,
    draw_from_branches,
    draw_from_prior,
    draw_new,
    prior_width,
)
from opttune.space.model import Choice, Fixed, Range
from opttune.space.parse import load_space
from opttune.space.sample import default_parameters
from tests.support.searches import make_space

SIX = make_space("""
optimizer:
  sgd:
    lr: {choices: [0.1, 0.2, 0.3], source: test}
schedule: {constant: {}, linear: {}}
""")


def draws(field: Range | Choice | Fixed, count: int = 2000) -> list[float]:
    rng = np.random.default_rng(0)
    return [float(draw_field(field, rng) or 0) for _ in range(count)]


@pytest.mark.slow
def test_a_draw_names_optimizer_and_schedule_where_there_are_several() -> None:
    rng = np.random.default_rng(0)
    wide = [draw_from_prior(load_space("wide"), rng, 0.5) for _ in range(100)]

    assert {str(configuration["optimizer"]) for configuration in wide} == {
        branch.name for branch in load_space("wide").optimizers
    }
    assert {str(configuration["schedule"]) for configuration in wide} == {
        branch.name for branch in load_space("wide").schedules
    }
    assert "optimizer" not in draw_from_prior(SIX, rng, 0.5)


def test_a_draw_asks_the_fields_of_its_branches_only() -> None:
    space = load_space("wide")
    for index, optimizer in enumerate(space.optimizers):
        configuration = draw_from_branches(space, optimizer, space.schedules[0], np.random.default_rng(0), 0.5)
        assert configuration.keys() == default_parameters(space, index).keys()


@pytest.mark.parametrize(("prior_share", "least", "most"), [(1.0, 0.92, 1.0), (0.5, 0.65, 0.8), (0.0, 0.4, 0.6)])
def test_draws_trust_priors_as_far_as_they_are_told(prior_share: float, least: float, most: float) -> None:
    space = make_space("optimizer: {sgd: {lr: {low: 1e-6, high: 1.0, log: true, prior: 1e-3, source: test}}}")
    rng = np.random.default_rng(0)
    rates = [float(draw_from_prior(space, rng, prior_share)["sgd.lr"] or 0) for _ in range(1000)]
    within = np.mean([abs(math.log10(rate / 1e-3)) < 2 * PRIOR_DECADES for rate in rates])

    # two deviations hold 95% of those that trust it, and half of this range
    assert least < within < most


def one_after_another(*rates: float) -> Iterator[Parameters]:
    for rate in rates:
        yield {"sgd.lr": rate}


OPEN = make_space("optimizer: {sgd: {lr: {low: 0.1, high: 1.0, log: true, source: test}}}")


def test_the_first_draw_that_is_unlike_the_others_is_taken() -> None:
    draws = one_after_another(0.5, 0.501, 0.9)
    configuration = draw_new(OPEN, SeenConfigurations([{"sgd.lr": 0.5}]), lambda: next(draws), np.random.default_rng(0))

    assert configuration == {"sgd.lr": 0.9}


def test_where_none_is_unlike_one_that_is_not_the_same_is_taken() -> None:
    draws = iter([0.5] * 40 + [0.501] * 40)
    configuration = draw_new(
        OPEN, SeenConfigurations([{"sgd.lr": 0.5}]), lambda: {"sgd.lr": next(draws)}, np.random.default_rng(0)
    )

    assert configuration == {"sgd.lr": 0.501}


def test_where_a_draw_gives_the_same_again_and_again_another_is_found() -> None:
    same: Parameters = {"sgd.lr": 0.1, "schedule": "linear"}
    found: list[Parameters] = [same]
    for _ in range(5):
        found.append(draw_new(SIX, SeenConfigurations(found), lambda: same, np.random.default_rng(0)))

    assert len({configuration_key(configuration) for configuration in found}) == 6
    # there is no seventh
    assert draw_new(SIX, SeenConfigurations(found), lambda: same, np.random.default_rng(0)) == same


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ({"sgd.lr": 0.102, "sgd.momentum": 0.9}, True),
        ({"sgd.lr": 0.2, "sgd.momentum": 0.9}, False),
        ({"sgd.lr": 0.1, "sgd.momentum": 0.91}, False),
        ({"sgd.lr": 0.1}, False),
        ({"adamw.lr": 0.1, "sgd.momentum": 0.9}, False),
    ],
)
def test_plans_are_alike_that_differ_a_little_in_the_learning_rate_only(other: Parameters, alike: bool) -> None:
    configuration: Parameters = {"sgd.lr": 0.1, "sgd.momentum": 0.9}

    assert (coarse_key(configuration) == coarse_key(other)) is alike
    assert configuration_key(configuration) != configuration_key(other)


def test_the_grid_that_tells_rates_apart_is_even_in_decades() -> None:
    keys = [coarse_key({"sgd.lr": rate}) for rate in np.geomspace(1e-6, 1, 61)]

    assert all(low != high for low, high in pairwise(keys))


def test_draws_around_a_prior_are_narrower_the_wider_the_range_in_decades() -> None:
    assert prior_width(Range(0.0, 1.0)) == PRIOR_WIDTH
    assert prior_width(Range(1e-1, 1.0, "log")) == PRIOR_WIDTH
    assert prior_width(Range(1e-10, 1.0, "log")) == pytest.approx(PRIOR_DECADES / 10)


def test_a_fixed_field_is_drawn_as_it_is() -> None:
    assert set(draws(Fixed(0.3), 3)) == {0.3}


def test_choices_are_drawn_evenly() -> None:
    found = draws(Choice((1.0, 2.0, 3.0, 4.0)))

    assert all(abs(found.count(value) - 500) < 80 for value in (1.0, 2.0, 3.0, 4.0))


@pytest.mark.parametrize(
    "field",
    [
        Range(1e-5, 1e-1, "log", prior=1e-3),
        Range(0.0, 2.0, prior=0.0),
        Range(0.5, 0.999, "log_of_one_minus", prior=0.9),
        Range(-3.0, 7.0),
        Range(1000.1, 1000.9),
    ],
)
def test_draws_stay_in_the_range_and_fill_it(field: Range) -> None:
    places = [field.place(value) for value in draws(field)]

    assert min(places) >= 0
    assert max(places) <= 1
    assert np.histogram(places, bins=10, range=(0, 1))[0].min() > 20


def test_most_draws_are_near_the_prior() -> None:
    field = Range(1e-5, 1e-1, "log", prior=1e-4)
    near = [abs(field.place(value) - 0.25) < 0.2 for value in draws(field)]

    # within one deviation lie 68% of those that trust it and 40% of the rest; the nearer end turns some back
    assert PRIOR_SHARE * 0.68 < np.mean(near) < 0.85


def test_whole_numbers_are_whole() -> None:
    assert set(draws(Range(1, 4, integer=True))) == {1.0, 2.0, 3.0, 4.0}


def test_values_have_three_digits_that_matter() -> None:
    for value in draws(Range(1e-5, 1e-1, "log", prior=1e-3), 100):
        assert float(f"{value:.3g}") == value
    for value in draws(Range(0.9, 0.9999, "log_of_one_minus"), 100):
        assert float(f"{1 - value:.3g}") == pytest.approx(1 - value, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("optimizer: adamw", 1),
        ("optimizer: {sgd: {lr: {choices: [0.1, 0.2]}}}\nschedule: {constant: {}, linear: {}}", 4),
        ("optimizer: {sgd: {lr: {choices: [0.1, 0.2]}}, adamw: {lr: 0.1}}", 3),
        ("optimizer: {sgd: {lr: 0.1}}\naccumulate_grad_batches: {low: 1, high: 3}", 3),
        ("optimizer: {sgd: {lr: {low: 0.1, high: 0.2}}}", math.inf),
    ],
)
def test_the_recipes_of_a_space_are_counted(text: str, count: float) -> None:
    assert count_configurations(make_space(text)) == count
