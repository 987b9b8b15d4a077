import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opttune.catalog import check_recipe
from opttune.errors import OpttuneError, RecipeError, UnknownNameError
from opttune.recipe import Part, Recipe
from opttune.space.recipe_file import load_recipe, save_recipe
from opttune.yaml_text import write_yaml
from tests.support.strategies import FAST, finite, plain_data

# tmp_path is shared by the examples; each of them writes its file anew
FAST_FILES = settings(FAST, suppress_health_check=[HealthCheck.function_scoped_fixture])

README = """\
optimizer: {name: adamw, lr: 3.0e-4, betas: [0.9, 0.95], weight_decay: 0.1}
schedule: {name: cosine, warmup_fraction: 0.05, final_lr_fraction: 0.1}
groups: {no_decay_norm_bias: true}
gradient_clip_norm: 1.0
accumulate_grad_batches: 1
precision: null
"""
RECIPE = Recipe(
    Part("adamw", {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}),
    Part("cosine", {"warmup_fraction": 0.05, "final_lr_fraction": 0.1}),
    gradient_clip_norm=1.0,
)
unit = st.floats(0, 1, exclude_max=True)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_file_holds_what_it_says(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path / "r.yaml", README)) == RECIPE


@FAST_FILES
@given(st.floats(0, 1e6, exclude_min=True), unit, unit, unit, st.none() | st.floats(1e-300, 1e300))
def test_a_saved_recipe_loads_to_the_last_digit(
    tmp_path: Path, lr: float, beta: float, decay: float, warmup: float, clip: float | None
) -> None:
    recipe = Recipe(
        Part("adamw", {"lr": lr, "betas": (beta, beta), "weight_decay": decay}),
        Part("linear", {"warmup_fraction": warmup}),
        gradient_clip_norm=clip,
    )

    save_recipe(recipe, tmp_path / "r.yaml", header="Best of 20 trials.\nval_loss 0.1")

    assert repr(load_recipe(tmp_path / "r.yaml")) == repr(recipe)


def test_a_saved_recipe_starts_with_its_header_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "an earlier one")

    save_recipe(RECIPE, path, header="Best of 20 trials.")

    assert path.read_text(encoding="utf-8").startswith("# Best of 20 trials.\noptimizer: {name: adamw, lr: 0.0003, ")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: a recipe is a mapping that starts with `optimizer:`, got None."),
        ("- adamw", ":1: a recipe is a mapping that starts with `optimizer:`, got ['adamw']."),
        ("schedule: cosine", ":1: there is no `optimizer`. Write for example "),
        ("optimizer: sgd\noptimizer: sgd", ":2: key 'optimizer' is repeated (first: line 1)."),
        ("optimizer: sgd\nlr: 1", ":2: unknown key 'lr'. "),
        ("optimizer: sgd\n\nschedul: cosine", ":3: unknown key 'schedul'. Did you mean 'schedule'?"),
        ("schedule:\n  name: cosine\noptimizer: adamww", ":3: unknown optimizer 'adamww'. Did you mean 'adamw'?"),
        (
            "optimizer:\n  lr: 1\n  name: adamww",
            ":3: unknown optimizer 'adamww'. Did you mean 'adamw'?",
        ),
        ("optimizer: sgd\nschedule:\n  name: cosin", ":3: unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ("optimizer:\n  name: sgd\n  momentun: 1", ":3: optimizer 'sgd' takes no 'momentun'. Did you mean 'momentum'?"),
        ("optimizer:\n  name: sgd\n  momentum: 1", ":3: optimizer sgd.momentum must be >= 0 and < 1, got 1."),
        ("optimizer:\n  name: sgd\n  nesterov: true\n  lr: 0.1", ":3: optimizer sgd.nesterov needs momentum > 0."),
        ("optimizer:\n  name: sgd\n  lr: 0x10", ":3: optimizer sgd.lr must be a number, got '0x10'."),
        ("optimizer:\n  name: sgd\n  lr: [1]", ":3: optimizer sgd.lr must be a number, got (1.0,)."),
        ("optimizer:\n  name: sgd\n  lr: {low: 1, high: 2}", ":3: sgd.lr must be a finite number, text, true, false, "),
        ("optimizer:\n  name: adamw\n\n  betas: [0.9]", ":4: optimizer adamw.betas must be a list of 2 numbers, got "),
        (
            "optimizer: sgd\nschedule:\n  name: cosine\n  warmup_fraction: 2",
            ":4: schedule cosine.warmup_fraction must ",
        ),
        ("optimizer: sgd\ngroups:\n  no_decay: true", ":3: groups: unknown key 'no_decay'. Did you mean "),
        ("optimizer: sgd\ngroups:\n  no_decay_norm_bias: 1", ":3: groups.no_decay_norm_bias must be true or false, "),
        ("optimizer: sgd\ngradient_clip_norm: -1", ":2: gradient_clip_norm must be > 0 or null, got -1."),
        ("optimizer: sgd\nprecision: 16", ":2: precision must be text such as 'bf16-mixed' or null, got 16."),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "r.yaml", text)
    with pytest.raises(OpttuneError, match="^" + re.escape(f"{path}{message}")):
        load_recipe(path)


@FAST_FILES
@given(st.data())
def test_a_damaged_file_is_a_recipe_or_one_error_with_its_line(tmp_path: Path, data: st.DataObject) -> None:
    text = README
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.text(max_size=3)) + text[end:]
    # lone surrogates cannot stand in a file
    _assert_recipe_or_error(tmp_path / "r.yaml", text.encode("utf-8", "replace").decode("utf-8"))


@FAST_FILES
@given(st.sampled_from(["optimizer", "schedule", "groups", "precision", "other"]), plain_data)
def test_a_section_of_the_wrong_kind_is_one_error_with_its_line(tmp_path: Path, section: str, data: Any) -> None:
    _assert_recipe_or_error(tmp_path / "r.yaml", write_yaml({**RECIPE.to_dict(), section: data}))


@FAST_FILES
@given(st.sampled_from(["name", "lr", "betas", "eps", "other"]), plain_data | finite | st.lists(finite))
def test_an_option_of_the_wrong_kind_is_one_error_with_its_line(tmp_path: Path, option: str, data: Any) -> None:
    settings = RECIPE.to_dict()
    settings["optimizer"][option] = data
    _assert_recipe_or_error(tmp_path / "r.yaml", write_yaml(settings))


def _assert_recipe_or_error(path: Path, text: str) -> None:
    write(path, text)
    found = _recipe_or_problem(path)
    if isinstance(found, str):
        assert re.fullmatch(rf"{re.escape(str(path))}:[0-9]+: .+", found)
    else:
        check_recipe(found)


def _recipe_or_problem(path: Path) -> Recipe | str:
    try:
        return load_recipe(path)
    except OpttuneError as err:
        return str(err)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^cannot read the recipe .*r.yaml: No such file or directory.$"):
        load_recipe(tmp_path / "r.yaml")


def test_binary_rubbish_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(RecipeError, match=r"r.yaml: not a text file in UTF-8.$"):
        load_recipe(path)


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^cannot read the recipe 'a.x00.yaml': "):
        load_recipe("a\x00.yaml")


def test_an_unknown_name_keeps_its_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown optimizer 'nothing'"):
        load_recipe(write(tmp_path / "r.yaml", "optimizer: nothing"))
