"""Positions and centres on each scale."""

import pytest

from opttune.catalog.ranges import ScaleName, SearchRange


@pytest.mark.parametrize(
    ("scale", "low", "high"), [("linear", -1.0, 3.0), ("log", 1e-5, 1e-1), ("log_of_one_minus", 0.5, 0.9999)]
)
def test_places_and_values_are_each_others_inverse(scale: ScaleName, low: float, high: float) -> None:
    search = SearchRange(low, high, low, scale, "nobody")
    for place in (0.0, 0.2, 0.5, 1.0):
        assert search.place(search.at(place)) == pytest.approx(place)
    assert (search.at(0.0), search.at(1.0)) == pytest.approx((low, high))


def test_the_centre_moves_with_the_length_only_where_a_short_one_is_given() -> None:
    assert SearchRange(1e-4, 1e-1, 1e-3, "log", "nobody").centre_for(1) == 1e-3
    search = SearchRange(1e-4, 1e-1, 1e-3, "log", "nobody", short_centre=1e-2)
    assert [search.centre_for(steps) for steps in (1, 300, 30_000, 10**7)] == [1e-2, 1e-2, 1e-3, 1e-3]
    assert search.centre_for(1000) > search.centre_for(5000)


@pytest.mark.parametrize(("scale", "without"), [("log", 0.0), ("log", -1.0), ("log_of_one_minus", 1.0)])
def test_a_logarithm_has_no_place_for_its_pole(scale: ScaleName, without: float) -> None:
    search = SearchRange(0.5, 0.9, 0.7, scale, "nobody")

    assert not search.has_place_for(without)
    assert search.has_place_for(0.7)
    assert SearchRange(0.5, 0.9, 0.7, "linear", "nobody").has_place_for(without)
