"""The rows of a module's own optimizer and schedule, and of several together."""

import pytest

from opttune.catalog.check import check_recipe
from opttune.catalog.info import searched_fields
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.catalog.optimizers_own import OWN_OPTIMIZER, OWN_SCHEDULE, join_rows, join_schedules
from opttune.errors import RecipeError, UnknownNameError
from opttune.recipe import Recipe


def test_own_is_found_by_its_name() -> None:
    assert find_optimizer("own") is OWN_OPTIMIZER
    assert find_schedule("own") is OWN_SCHEDULE


def test_every_knob_is_searched_around_where_the_module_has_it() -> None:
    for name, search in searched_fields(OWN_OPTIMIZER).items():
        assert (search.centre, search.scale) == (1.0, "log"), name
        assert search.low * search.high == pytest.approx(1.0), name


def test_the_row_of_several_has_the_options_of_each_behind_its_number() -> None:
    sgd = find_optimizer("sgd")
    joined = find_optimizer("own+sgd")
    assert joined == join_rows((OWN_OPTIMIZER, sgd))
    assert {option.name for option in joined.options} >= {"0.lr_factor", "1.lr", "1.momentum", "1.nesterov"}
    # what an option needs is of the same optimizer
    assert {option.name: option.needs for option in joined.options}["1.nesterov"] in ("1.momentum", "")
    assert not joined.is_own
    assert find_optimizer("own+own").is_own


def test_the_row_of_several_schedules_has_the_options_of_each() -> None:
    joined = find_schedule("own+cosine")
    assert joined == join_schedules((OWN_SCHEDULE, find_schedule("cosine")))
    assert "1.warmup_fraction" in {option.name for option in joined.options}
    assert (joined.is_own, find_schedule("own+own").is_own) == (False, True)


def test_an_unknown_one_of_several_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown optimizer 'adamww'\. Did you mean 'adamw'"):
        find_optimizer("own+adamww")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"optimizer": {"name": "own", "lr": 0.1}}, r"'lr'"),
        ({"optimizer": {"name": "own", "lr_factor": 0}}, r"lr_factor must be > 0"),
        ({"optimizer": {"name": "own", "lr_factor": -1.0}}, r"lr_factor must be > 0"),
        ({"optimizer": {"name": "own", "weight_decay_factor": -0.5}}, r"weight_decay_factor must be >= 0"),
        ({"optimizer": "adamw", "schedule": "own"}, r"own"),
        ({"optimizers": ["own", {"name": "adamw", "lr": -1.0}]}, r"lr must be"),
        ({"optimizers": ["own", "adamw"], "schedules": ["own", "own"]}, r"own"),
        ({"optimizers": ["own", "adamw"], "schedules": ["own", {"name": "cosine", "warmup": 1}]}, r"'warmup'"),
    ],
)
def test_what_a_recipe_cannot_say_of_it_is_refused(recipe: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_recipe(Recipe.from_dict(recipe))


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "own"},
        {"optimizer": {"name": "own", "weight_decay_factor": 0}},
        {"optimizer": {"name": "own", "lr_factor": 3.0}, "schedule": "cosine"},
        {"optimizers": ["own", "own"]},
        {"optimizers": ["own", "adamw"], "schedules": ["own", "constant"]},
    ],
)
def test_what_it_can_say_is_taken(recipe: dict[str, object]) -> None:
    check_recipe(Recipe.from_dict(recipe))
