import copy
import math
import pickle
import re
from dataclasses import replace
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opttune.errors import RecipeError
from opttune.recipe import Groups, Part, Recipe, is_number, join_names, numbered, part_names, unnumbered
from opttune.yaml_text import read_yaml, write_yaml
from tests.support.strategies import FAST, finite, plain_data, texts

ADAMW = {"name": "adamw", "lr": 3e-4, "betas": [0.9, 0.95]}

whole = st.integers(-(2**63), 2**63 - 1)
options = st.dictionaries(
    texts.filter(lambda key: key != "name"),
    st.none() | st.booleans() | whole | finite | texts | st.lists(finite | whole, max_size=3),
    max_size=5,
)
parts = st.builds(Part, texts.filter(lambda name: "+" not in name), options)
recipes = st.builds(
    Recipe,
    optimizer=parts,
    schedule=parts,
    groups=st.builds(Groups, st.booleans()),
    gradient_clip_norm=st.none() | st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 2**63 - 1),
    accumulate_grad_batches=st.integers(1, 2**63 - 1),
    precision=st.none() | texts,
)


@FAST
@given(recipes)
def test_a_recipe_comes_back_from_yaml_to_the_last_digit(recipe: Recipe) -> None:
    read = Recipe.from_dict(read_yaml(write_yaml(recipe.to_dict())).data)

    assert read == recipe
    assert repr(read) == repr(recipe)


@FAST
@given(recipes)
def test_a_recipe_is_a_value(recipe: Recipe) -> None:
    for twin in (pickle.loads(pickle.dumps(recipe)), copy.deepcopy(recipe), Recipe.from_dict(recipe.to_dict())):
        assert twin == recipe
        assert hash(twin) == hash(recipe)


@FAST
@given(plain_data)
def test_any_data_is_a_recipe_or_one_clear_error(data: Any) -> None:
    _assert_recipe_or_error(data)


@FAST
@given(
    st.sampled_from(["optimizer", "schedule", "groups", "gradient_clip_norm", "accumulate_grad_batches"]), plain_data
)
def test_a_section_of_the_wrong_kind_is_one_clear_error(section: str, data: Any) -> None:
    _assert_recipe_or_error({"optimizer": ADAMW, section: data})


@FAST
@given(plain_data)
def test_an_option_of_the_wrong_kind_is_one_clear_error(data: Any) -> None:
    _assert_recipe_or_error({"optimizer": {**ADAMW, "lr": data}})


def _assert_recipe_or_error(data: Any) -> None:
    found = _recipe_or_problem(data)
    if isinstance(found, str):
        assert re.fullmatch(r"best\.yaml: .+", found)
    else:
        assert Recipe.from_dict(read_yaml(write_yaml(found.to_dict())).data) == found


def _recipe_or_problem(data: Any) -> Recipe | str:
    try:
        return Recipe.from_dict(data, where="best.yaml")
    except RecipeError as err:
        return str(err)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "r.yaml: a recipe is a mapping that starts with `optimizer:`, got None."),
        ([ADAMW], "r.yaml: a recipe is a mapping that starts with `optimizer:`, got ["),
        ({}, "r.yaml: there is no `optimizer`. Write for example `optimizer: {name: adamw, lr: 3.0e-4}`."),
        ({"optimiser": ADAMW}, "r.yaml: unknown key 'optimiser'. Did you mean 'optimizer'? Allowed: accumulate_"),
        ({"optimizer": 5}, "r.yaml: optimizer must be a name or {name: ..., option: value}, got 5."),
        ({"optimizer": {"lr": 1}}, "r.yaml: optimizer must be a name or {name: ..., option: value}, got {'lr': 1}."),
        ({"optimizer": {**ADAMW, 3: 4}}, "r.yaml: adamw: 3 cannot be an option's name."),
        ({"optimizer": {**ADAMW, "betas": [0.9, "x"]}}, "r.yaml: adamw.betas must be numbers, got [0.9, 'x']."),
        ({"optimizer": {**ADAMW, "betas": [0.9, math.nan]}}, "r.yaml: adamw.betas must be numbers, got [0.9, nan]."),
        ({"optimizer": {**ADAMW, "lr": {}}}, "r.yaml: adamw.lr must be a finite number, text, true, false, null or a "),
        ({"optimizer": {**ADAMW, "lr": math.inf}}, "r.yaml: adamw.lr must be a finite number, "),
        ({"optimizer": {**ADAMW, "lr": 10**400}}, "r.yaml: adamw.lr must be a finite number, "),
        ({"optimizer": ADAMW, "schedule": None}, "r.yaml: schedule must be a name or {name: ..., option: value}, got "),
        ({"optimizer": ADAMW, "groups": None}, "r.yaml: groups must be a mapping, got None."),
        ({"optimizer": ADAMW, "groups": {"no_decay": True}}, "r.yaml: groups: unknown key 'no_decay'. Did you mean "),
        (
            {"optimizer": ADAMW, "groups": {"no_decay_norm_bias": 1}},
            "r.yaml: groups.no_decay_norm_bias must be true or false, got 1.",
        ),
        ({"optimizer": ADAMW, "gradient_clip_norm": 0}, "r.yaml: gradient_clip_norm must be > 0 or null, got 0."),
        ({"optimizer": ADAMW, "gradient_clip_norm": 10**400}, "r.yaml: gradient_clip_norm must be > 0 or null, got 1"),
        (
            {"optimizer": ADAMW, "accumulate_grad_batches": 1.5},
            "r.yaml: accumulate_grad_batches must be a whole number >= 1, got 1.5.",
        ),
        ({"optimizer": ADAMW, "accumulate_grad_batches": True}, "r.yaml: accumulate_grad_batches must be a whole num"),
        (
            {"optimizer": ADAMW, "precision": 16},
            "r.yaml: precision must be text such as 'bf16-mixed' or null, got 16.",
        ),
    ],
)
def test_wrong_data_is_refused_with_what_was_got_and_what_is_allowed(data: Any, message: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(message)):
        Recipe.from_dict(data, where="r.yaml")


def test_a_recipe_takes_parts_not_names() -> None:
    with pytest.raises(RecipeError, match=r"^recipe: optimizer must be a Part, got 'adamw'.$"):
        Recipe("adamw")  # type: ignore[arg-type]


def test_an_option_cannot_be_called_name() -> None:
    with pytest.raises(RecipeError, match=r"^recipe: adamw: 'name' cannot be an option's name.$"):
        Part("adamw", {"name": "sgd"})


def test_the_order_of_options_does_not_matter() -> None:
    assert Part("sgd", {"momentum": 0.9, "lr": 0.1}) == Part("sgd", {"lr": 0.1, "momentum": 0.9})


def test_lr_is_written_first() -> None:
    part = Part("sgd", {"alpha": 1.0, "lr": 0.1})

    assert list(part.to_dict()) == ["name", "lr", "alpha"]
    assert str(part) == "sgd(lr=0.1, alpha=1)"


def test_a_part_is_a_mapping_of_its_options() -> None:
    part = Part("adamw", {"lr": 1e-3, "betas": (0.9, 0.99)})

    assert dict(part) == {"lr": 1e-3, "betas": (0.9, 0.99)}
    assert len(part) == 2
    assert part.get("eps", 1e-8) == 1e-8
    assert part.replaced(lr=1e-2) == Part("adamw", {"lr": 1e-2, "betas": (0.9, 0.99)})
    with pytest.raises(KeyError, match=r"eps"):
        part["eps"]


def test_numbers_and_texts_of_other_types_become_plain() -> None:
    class Precision(StrEnum):
        BF16 = "bf16-mixed"

    part = Part("sgd", {"lr": np.float64(0.1), "betas": [np.float64(0.9), 1]})
    recipe = Recipe(part, gradient_clip_norm=np.float64(1.0), precision=Precision.BF16)

    assert {type(value) for value in (part["lr"], *part["betas"], recipe.gradient_clip_norm)} == {float}  # type: ignore[misc]
    assert type(recipe.precision) is str
    assert Recipe.from_dict(read_yaml(write_yaml(recipe.to_dict())).data) == recipe


def test_flat_has_one_plain_value_a_field() -> None:
    recipe = Recipe(Part("adamw", {"lr": 1e-3, "betas": (0.9, 0.99)}), Part("cosine", {"warmup_fraction": 0.1}))

    assert recipe.flat() == {
        "optimizer": "adamw",
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.99,
        "schedule": "cosine",
        "warmup_fraction": 0.1,
        **Groups().flat(),
        "gradient_clip_norm": None,
        "accumulate_grad_batches": 1,
        "precision": None,
    }


def test_a_recipe_reads_in_one_line() -> None:
    recipe = Recipe(Part("adamw", {"lr": 3e-4, "betas": (0.9, 0.95)}), Part("cosine"))

    assert str(recipe) == "adamw(lr=0.0003, betas=(0.9, 0.95)), cosine()"
    clipped = replace(recipe, gradient_clip_norm=0.5, accumulate_grad_batches=4, precision="bf16-mixed")
    assert str(clipped) == f"{recipe}, clip_norm=0.5, accumulate=4, precision=bf16-mixed"


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**63, -(10**400), True, None, "1"])
def test_what_not_every_part_can_hold_is_no_number(value: object) -> None:
    assert not is_number(value)


def test_the_parts_of_several_optimizers_keep_their_names_and_numbers() -> None:
    name = join_names(["own", "adamw"])
    assert part_names(name) == ("own", "adamw")
    assert numbered(1, "lr") == "1.lr"
    assert unnumbered({"lr_factor": 2.0, "0.lr_factor": 3.0, "1.lr": 0.1, "11.lr": 0.2}, 1) == {"lr": 0.1}
