import math
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opttune.errors import SpaceError
from opttune.space.model import Branch, Choice, FieldError, Fixed, Range, Space
from tests.support.strategies import FAST, finite

ADAMW = Branch("adamw")


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    scale = draw(st.sampled_from(["linear", "log", "log_of_one_minus"]))
    ends = draw(st.lists(finite | st.floats(0, 1), min_size=2, max_size=2))
    try:
        return Range(min(ends), max(ends), scale)
    except FieldError:
        assume(False)
        raise


@FAST
@given(ranges(), st.floats(0, 1))
def test_every_place_of_a_range_lies_in_it(found: Range, place: float) -> None:
    assert found.low <= found.at(place) <= found.high


@FAST
@given(ranges())
def test_the_ends_of_a_range_are_its_places_0_and_1(found: Range) -> None:
    assert found.place(found.low) == 0
    assert found.place(found.high) == 1


@pytest.mark.parametrize(
    ("found", "middle"),
    [
        (Range(0.0, 1.0), 0.5),
        (Range(1e-4, 1e-2, "log"), 1e-3),
        (Range(0.9, 0.999, "log_of_one_minus"), 0.99),
        (Range(1, 8, integer=True), 4.0),
    ],
)
def test_the_middle_of_a_range_is_that_of_its_scale(found: Range, middle: float) -> None:
    assert found.at(0.5) == pytest.approx(middle, rel=1e-12)
    assert found.centre == found.at(0.5)


@pytest.mark.parametrize("place", [-1.0, 2.0])
def test_a_place_outside_is_taken_for_the_end(place: float) -> None:
    assert Range(1.0, 2.0).at(place) == (1.0 if place < 0 else 2.0)


def test_rounding_leaves_three_digits_and_stays_in_the_range() -> None:
    assert Range(1e-5, 1e-1, "log").rounded(0.0012345) == 0.00123
    assert Range(0.12345, 0.5).rounded(0.12345) == 0.12345
    assert Range(0.1, 0.98765).rounded(0.98765) == 0.98765
    assert Range(0.5, 0.9999, "log_of_one_minus").rounded(0.9987654) == pytest.approx(1 - 0.00123, abs=1e-15)
    assert Range(1000.0, 1001.0).rounded(1000.12345) == 1000.12
    assert Range(1, 9999, integer=True).rounded(1234.0) == 1234.0


def test_a_value_outside_is_clipped_to_the_nearest_end() -> None:
    assert [Range(0.1, 0.2).clip(value) for value in (-1.0, 0.15, 7.0)] == [0.1, 0.15, 0.2]


@FAST
@given(ranges(), st.floats(0, 1))
def test_a_value_comes_back_from_optuna_up_to_rounding(found: Range, place: float) -> None:
    value = found.at(place)
    (low, high), stored = found.optuna_bounds, found.to_optuna(value)

    assert isinstance(stored, float)
    assert low <= stored <= high
    assert found.from_optuna(stored) == pytest.approx(value, rel=1e-15, abs=1e-15)
    assert found.is_encoded or found.from_optuna(stored) == value


@pytest.mark.parametrize(
    ("found", "asked", "stored", "is_log"),
    [
        (Range(0.5, 0.75), "adamw.x", 0.75, False),
        (Range(0.5, 0.75, "log"), "adamw.x", 0.75, True),
        (Range(0.5, 0.75, "log_of_one_minus"), "adamw.one_minus_x", 0.25, True),
    ],
)
def test_optuna_is_asked_for_the_distance_to_one_on_its_scale(
    found: Range, asked: str, stored: float, is_log: bool
) -> None:
    assert (found.optuna_name("adamw.x"), found.to_optuna(0.75), found.is_log_in_optuna) == (asked, stored, is_log)
    assert found.optuna_name("x") == asked.removeprefix("adamw.")


def test_optuna_holds_whole_numbers_as_such_and_choices_as_they_are() -> None:
    assert repr(Range(1, 8, integer=True).to_optuna(4.0)) == "4"
    assert Choice(("a", None)).to_optuna(None) is None
    assert Choice(("a", None)).optuna_name("adamw.x") == "adamw.x"


def test_the_prior_is_the_centre() -> None:
    assert Range(0.0, 1.0, prior=0.1).centre == 0.1
    assert Choice(("a", "b"), start=1).centre == "b"
    assert Fixed(3).centre == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 2, "high": 1}, "low must be below high, got low 2 and high 1."),
        ({"low": 1, "high": 1.0}, "low must be below high, got low 1 and high 1.0."),
        ({"low": 0, "high": 1, "scale": "log"}, "low must be > 0 because log is true, got 0."),
        ({"low": -1.0, "high": 1, "scale": "log"}, "low must be > 0 because log is true, got -1.0."),
        (
            {"low": 0.9, "high": 1, "scale": "log_of_one_minus"},
            "high must be < 1 because log_of_one_minus is true, got 1.",
        ),
        ({"low": 0, "high": math.inf}, "low and high must be finite numbers, got 0 and inf."),
        ({"low": math.nan, "high": 1}, "low and high must be finite numbers, got nan and 1."),
        ({"low": "0", "high": True}, "low and high must be finite numbers, got '0' and True."),
        ({"low": 0, "high": 10**400}, "low and high must be finite numbers, got 0 and 1000"),
        ({"low": -1.7e308, "high": 1.7e308}, "low and high must be finite numbers, got -1.7e+308 and 1.7e+308."),
        ({"low": 1e-20, "high": 2e-20, "scale": "log_of_one_minus"}, "low and high are too close together, got 1e-20"),
        ({"low": 0, "high": 1, "prior": 2}, "prior must lie in the range, from 0 to 1, got 2."),
        ({"low": 0, "high": 1, "prior": math.nan}, "prior must lie in the range, from 0 to 1, got nan."),
        ({"low": 0, "high": 1, "prior": "x"}, "prior must lie in the range, from 0 to 1, got 'x'."),
        ({"low": 1.5, "high": 4, "integer": True}, "low must be a whole number, got 1.5."),
        ({"low": 1, "high": 1e300, "integer": True}, "high must be a whole number, got 1e+300."),
        ({"low": 1, "high": 4, "integer": True, "prior": 2.5}, "prior must be a whole number, got 2.5."),
        (
            {"low": -3, "high": 0, "integer": True, "scale": "log_of_one_minus"},
            "whole numbers cannot be searched on the scale log_of_one_minus.",
        ),
        (
            {"low": 0, "high": 1, "scale": "cubic"},
            "scale must be one of linear, log, log_of_one_minus, got 'cubic'.",
        ),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError, match="^" + re.escape(message)):
        Range(**settings)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), "choices must have at least one value, got []."),
        (("a", "a"), "choices must not repeat a value, got ['a', 'a']."),
        # Optuna keeps the first of two equal values and gives it back for the other
        ((1, True), "choices must not repeat a value, got [1, True]."),
        ((1, 1.0), "choices must not repeat a value, got [1, 1.0]."),
        ((0.0, -0.0), "choices must not repeat a value, got [0.0, -0.0]."),
        ((1.0, math.nan), "a value must be a finite number, text, true, false or null, got nan."),
        (([1], [2]), "a value must be a finite number, text, true, false or null, got [1]."),
    ],
)
def test_choices_that_cannot_be_told_apart_are_refused(choices: tuple[Any, ...], message: str) -> None:
    with pytest.raises(FieldError, match="^" + re.escape(message)):
        Choice(choices)


@pytest.mark.parametrize("start", [-1, 2])
def test_a_start_outside_the_choices_is_refused(start: int) -> None:
    with pytest.raises(FieldError, match=f"^start must be from 0 to 1, got {start}.$"):
        Choice(("a", "b"), start)


@pytest.mark.parametrize("value", [math.inf, [1], {"low": 1}, 10**400])
def test_a_fixed_value_is_a_plain_one(value: Any) -> None:
    with pytest.raises(FieldError, match=r"^a value must be a finite number, text, true, false or null, got "):
        Fixed(value)


def test_a_space_needs_an_optimizer_and_a_schedule() -> None:
    with pytest.raises(SpaceError, match=r"^space mine: there must be at least one optimizer and one schedule.$"):
        Space("mine", ())
    with pytest.raises(SpaceError, match=r"^space mine: there must be at least one optimizer and one schedule.$"):
        Space("mine", (ADAMW,), ())


def test_a_name_is_once_in_a_space() -> None:
    with pytest.raises(SpaceError, match=r"^space mine: 'adamw' is given twice as an optimizer.$"):
        Space("mine", (ADAMW, ADAMW))
    with pytest.raises(SpaceError, match=r"^space mine: 'lr' is given twice as a field of adamw.$"):
        Space("mine", (Branch("adamw", (("lr", Fixed(1)), ("lr", Fixed(2)))),))


def test_parameters_carry_their_branch_and_leave_out_what_is_fixed() -> None:
    lr = Range(1e-4, 1e-2, "log")
    space = Space(
        "mine",
        (Branch("adamw", (("lr", lr), ("beta1", Fixed(0.9)))), Branch("sgd", (("lr", lr),))),
        (Branch("cosine", (("warmup_fraction", Choice((0.0, 0.1))),)),),
        (("gradient_clip_norm", Choice((1.0, None))), ("accumulate_grad_batches", Fixed(2))),
    )

    names = [name for name, _ in space.parameters()]

    assert names == ["optimizer", "adamw.lr", "sgd.lr", "cosine.warmup_fraction", "gradient_clip_norm"]


def test_a_branch_gives_its_fields_by_name() -> None:
    branch = Branch("adamw", (("lr", Fixed(1)),))

    assert branch.get("lr") == Fixed(1)
    assert branch.get("eps") is None


def test_a_field_of_a_branch_is_replaced_and_the_others_keep_their_places() -> None:
    branch = Branch("adamw", (("lr", Fixed(1)), ("beta1", Fixed(0.9))))

    assert branch.with_field("lr", Fixed(2)) == Branch("adamw", (("lr", Fixed(2)), ("beta1", Fixed(0.9))))
    assert branch.with_field("eps", Fixed(2)) == branch


def test_all_fields_of_a_space_are_changed_by_their_full_names() -> None:
    space = Space(
        "mine",
        (Branch("adamw", (("lr", Fixed(1)),)), Branch("sgd", (("lr", Fixed(1)),))),
        (Branch("cosine", (("warmup_fraction", Fixed(0.1)),)),),
        (("gradient_clip_norm", Fixed(1.0)),),
    )
    seen: list[str] = []

    def change(name: str, field: Fixed) -> Fixed:
        seen.append(name)
        return Fixed(2) if name == "sgd.lr" else field

    changed = space.map_fields(change)

    assert seen == ["adamw.lr", "sgd.lr", "cosine.warmup_fraction", "gradient_clip_norm"]
    assert changed.optimizers == (space.optimizers[0], Branch("sgd", (("lr", Fixed(2)),)))
    assert (changed.schedules, changed.training) == (space.schedules, space.training)
    assert changed == space.map_optimizers(
        lambda branch: branch.with_field("lr", Fixed(2)) if branch.name == "sgd" else branch
    )
