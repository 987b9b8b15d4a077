"""The laws of the length: forecasts of published losses, and exponents of the learning rate."""

from math import log

import pytest

from opttune.algorithms.length_law import PRIOR_EXPONENT, RateTrial, compare_rates, forecast, shrunk_exponent

# a language model of 124M parameters, lr 1e-3, decay share 0.2 (github.com/fabian-sp/lr-scheduling)
LOSSES = {15_000: 3.071903, 25_000: 3.002828, 35_000: 2.966068}
LOSS_AT_50_000 = 2.930310


def test_a_published_loss_is_foreseen() -> None:
    expected = forecast(LOSSES, 50_000)

    assert expected is not None
    assert expected.value == pytest.approx(LOSS_AT_50_000, rel=1e-3)
    assert expected.low < LOSS_AT_50_000 < expected.high
    assert expected.high - expected.low < 0.02 * LOSS_AT_50_000


def test_the_interval_widens_with_the_distance() -> None:
    widths = [one.high - one.low for at in (40_000, 100_000, 1_000_000) if (one := forecast(LOSSES, at))]

    assert len(widths) == 3
    assert widths == sorted(widths)


def test_a_shorter_training_is_expected_to_be_worse() -> None:
    expected = forecast(LOSSES, 10_000)

    assert expected is not None
    assert expected.value > LOSSES[15_000]


def test_the_unit_of_the_loss_does_not_matter() -> None:
    one, thousand = forecast(LOSSES, 50_000), forecast({at: 1_000 * loss for at, loss in LOSSES.items()}, 50_000)

    assert one is not None
    assert thousand is not None
    assert thousand.value == pytest.approx(1_000 * one.value)


def test_a_metric_below_zero_is_foreseen_below_its_last_value() -> None:
    expected = forecast({100: -1.0, 1_000: -2.0, 10_000: -2.5}, 100_000)

    assert expected is not None
    assert expected.low < expected.value < -2.5


@pytest.mark.parametrize(
    "points", [{}, {100: 2.0, 1_000: 1.0}, {100: 2.0, 1_000: 1.0, 10_000: 1.0}, {100: 1.0, 1_000: 2.0, 10_000: 0.5}]
)
def test_no_forecast_is_made_of_too_little_or_of_what_does_not_fall(points: dict[int, float]) -> None:
    assert forecast(points, 50_000) is None


def trials(best_at_short: float, best_at_long: float, rates: tuple[float, ...] = (0.01, 0.1, 1.0)) -> list[RateTrial]:
    return [
        RateTrial("sgd", rate, {1_000: abs(log(rate / best_at_short)), 100_000: abs(log(rate / best_at_long)) - 1})
        for rate in rates
    ]


def test_an_optimizer_shows_how_its_best_rate_falls() -> None:
    (shown,) = compare_rates(trials(1.0, 0.1))

    assert (shown.best_at_short, shown.best_at_long) == (1.0, 0.1)
    assert (shown.short, shown.long, shown.rates) == (1_000, 100_000, 3)
    assert shown.exponent.mean == pytest.approx(0.5)
    # half of the gap of a decade, and twice as much at the edge, over two decades of the length
    assert shown.exponent.stdev == pytest.approx((0.5**2 + 1.0**2) ** 0.5 / 2)


def test_few_rates_and_an_edge_at_both_lengths_show_nothing() -> None:
    assert compare_rates(trials(1.0, 0.1, rates=(0.1, 1.0))) == []
    assert compare_rates(trials(0.01, 0.01)) == []
    assert compare_rates([]) == []


def test_trials_that_a_rung_sorted_out_do_not_count() -> None:
    # the best of the rung, by far, never reached the end
    left_out = RateTrial("sgd", 10.0, {1_000: -9.0})
    assert compare_rates([*trials(0.1, 0.1), left_out]) == compare_rates(trials(0.1, 0.1))


def test_what_is_shown_is_shrunk_to_the_prior_by_its_precision() -> None:
    (shown,) = compare_rates(trials(1.0, 0.1))
    found = shrunk_exponent([shown])
    weight = PRIOR_EXPONENT.variance / (PRIOR_EXPONENT.variance + shown.exponent.variance)

    assert found.mean == pytest.approx(PRIOR_EXPONENT.mean + weight * (shown.exponent.mean - PRIOR_EXPONENT.mean))
    assert found.stdev < PRIOR_EXPONENT.stdev
    assert found.mean < 0.5 * (PRIOR_EXPONENT.mean + shown.exponent.mean)
    assert shrunk_exponent([]).mean == pytest.approx(PRIOR_EXPONENT.mean)
