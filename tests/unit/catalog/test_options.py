"""The options that several rows share."""

from opttune.catalog import options as o
from opttune.catalog.ranges import SearchRange


def test_adam_like_rates_start_higher_in_short_trainings() -> None:
    search = o.adam_like_lr(1e-3, "nobody").searchable["lr"]
    assert isinstance(search, SearchRange)
    assert (search.centre_for(300), search.centre_for(30_000)) == (1e-2, 1e-3)


def test_betas_beyond_the_second_are_searched_only_where_a_row_says_so() -> None:
    assert set(o.betas(0.9, 0.99, 0.999).searchable) == {"beta1", "beta2"}


def test_a_switch_is_searched_where_it_has_a_source() -> None:
    assert not o.switch("on", False, "help").searchable
    assert o.switch("on", False, "help", source="nobody").searchable["on"].source == "nobody"


def test_fixed_rates_are_not_searched() -> None:
    assert not o.fixed_lr(1.0, "help").searchable
