"""Options check their values and name their fields."""

from typing import Any

import pytest

from opttune.catalog import OptionInfo, find_optimizer, find_schedule
from opttune.catalog.ranges import SearchRange
from opttune.errors import RecipeError
from opttune.recipe import Value

RATE = OptionInfo("rate", 0.5, low=0, high=1, excluded="both")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (RATE, 1.0, r"here\.rate must be > 0 and < 1, got 1\.0\."),
        (RATE, float("nan"), r"here\.rate must be > 0 and < 1, got nan\."),
        (RATE, "0.5", r"here\.rate must be a number, got '0\.5'\."),
        (OptionInfo("n", 1, "int"), 1.0, r"here\.n must be a whole number, got 1\.0\."),
        (OptionInfo("n", None, "int", optional=True), True, r"here\.n must be a whole number or null, got True\."),
        (OptionInfo("s", "a", "text", choices=("a", "b")), "c", r"here\.s must be one of a, b, got 'c'\."),
        (
            OptionInfo("betas", (0.9, 0.99), "floats"),
            (0.9,),
            r"here\.betas must be a list of 2 numbers, got \(0\.9,\)\.",
        ),
        (OptionInfo("m", (0.5,), "floats", high=1, any_length=True), (0.5, 2.0), r"here\.m must be <= 1, got 2\.0\."),
    ],
)
def test_what_an_option_cannot_hold_is_refused(option: OptionInfo, value: Value, message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}$"):
        option.check(value, "here")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (RATE, 0.1),
        (OptionInfo("n", None, "int", optional=True), None),
        (OptionInfo("m", (0.5,), "floats", any_length=True), (0.1, 0.2, 0.3)),
    ],
)
def test_what_it_can_hold_passes(option: OptionInfo, value: Any) -> None:
    option.check(value, "here")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"low": 0, "high": 1, "excluded": "high"}, ">= 0 and < 1"),
        ({"low": 0, "excluded": "low"}, "> 0"),
        ({"high": 0.5}, "<= 0.5"),
        ({}, "finite"),
    ],
)
def test_a_range_in_words_says_which_of_its_ends_belong_to_it(limits: dict[str, Any], words: str) -> None:
    assert OptionInfo("rate", 0.5, **limits).range_words == words


def test_one_field_of_a_list_is_checked_by_itself() -> None:
    betas = OptionInfo("betas", (0.9, 0.99), "floats", low=0, high=1)
    betas.check_field(0.5, "here.beta1")

    with pytest.raises(RecipeError, match=r"^here\.beta1 must be >= 0 and <= 1, got 2\.0\.$"):
        betas.check_field(2.0, "here.beta1")


def test_searchable_fields_are_named_as_spaces_name_them() -> None:
    options = {option.name: option for option in find_optimizer("ademamix").options}
    assert set(options["betas"].searchable) == {"beta1", "beta2", "beta3"}
    assert set(options["eps"].searchable) == {"eps"}
    assert OptionInfo("betas", (0.9, 0.95), "floats", search=(None,)).searchable == {}
    warmup = find_schedule("cosine").options[0].searchable["warmup_fraction"]
    assert isinstance(warmup, SearchRange)
    assert warmup.also == (0.0,)
