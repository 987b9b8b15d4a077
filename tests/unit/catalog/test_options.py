"""Options that several rows share, those of the schedules, and those of the training itself."""

import pytest

from opttune.catalog import options as o
from opttune.catalog.ranges import SearchRange
from opttune.catalog.schedules import SCHEDULES
from opttune.catalog.training import TRAINING_OPTIONS
from opttune.errors import RecipeError
from opttune.recipe import Part, Recipe


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


def test_schedules_that_rise_by_themselves_have_no_warmup() -> None:
    bare = {info.name for info in SCHEDULES if info.warmup is None}
    assert bare == {"one_cycle", "cyclical"}


def test_rates_rise_in_a_warmup_or_by_the_shape_itself() -> None:
    rises = {(option.name, option.rises) for info in SCHEDULES for option in info.options if option.rises}
    assert rises == {("warmup_fraction", "warmup"), ("rise_fraction", "shape")}


def test_they_are_fields_of_a_recipe_with_the_same_defaults():
    recipe = Recipe(Part("adamw"))
    assert {option.name: option.default for option in TRAINING_OPTIONS} == {
        option.name: getattr(recipe, option.name) for option in TRAINING_OPTIONS
    }


@pytest.mark.parametrize(("name", "value"), [("gradient_clip_norm", 0.0), ("accumulate_grad_batches", 0)])
def test_what_a_recipe_refuses_a_space_refuses_as_well(name, value):
    (option,) = [option for option in TRAINING_OPTIONS if option.name == name]
    with pytest.raises(RecipeError, match="must be"):
        option.check(value, "here")
    with pytest.raises(RecipeError, match="must be"):
        Recipe(Part("adamw"), **{name: value})
