import pytest

from opttune.catalog.training import TRAINING_OPTIONS
from opttune.errors import RecipeError
from opttune.recipe import Part, Recipe


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
