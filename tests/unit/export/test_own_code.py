"""The exported code for a module's own optimizers trains as the recipe does, to the last digit."""

import ast
import re
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from opttune.errors import InputError
from opttune.export.own_code import is_own, own_text
from opttune.export.python import python_text
from opttune.export.use import Use
from opttune.recipe import Recipe
from opttune.training.recipe_callback import RecipeCallback
from tests.support import several_optimizers as so

USE = Use("trial 3 of the study s", value=0.5, length={"max_steps": 40}, seed=0)
ONE = {"name": "own", "lr_factor": 0.5}


def load(text: str) -> Any:
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    space: dict[str, Any] = {}
    exec(compile(text, "exported.py", "exec"), space)
    return space["moved"]


def arguments(text: str) -> list[dict[str, float]]:
    """Return what the comments say for each optimizer."""
    calls = re.findall(r"^#     optimizer(?:_(\d))? = moved\(optimizer(?:_\d)?(.*)\)$", text, re.MULTILINE)
    found: dict[int, dict[str, float]] = {}
    for number, given in calls:
        pairs = (pair.split("=") for pair in given.removeprefix(", ").split(", "))
        found[int(number or 0)] = {name: float(value) for name, value in pairs}
    return [found.get(number, {}) for number in range(max(found) + 1)]


def train(model: pl.LightningModule, *callbacks: Any) -> dict[str, torch.Tensor]:
    pl.seed_everything(0, workers=True, verbose=False)
    model.__init__()  # type: ignore[misc]  # with the seed's weights
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=40, callbacks=list(callbacks), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, *so.loaders())
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        (so.Gan, {"optimizers": [{**ONE, "beta2_horizon_factor": 0.3}, {"name": "own", "lr_factor": 2.0}]}),
        (so.SchedulingGan, {"optimizers": ["own", ONE]}),
        (so.Accumulating, {"optimizer": {**ONE, "momentum_horizon_factor": 2.0}}),
        (so.TwoRates, {"optimizer": {"name": "own", "weight_decay_factor": 5.0, "beta1_horizon_factor": 0.2}}),
        (so.OneCycle, {"optimizer": ONE}),
        (so.OwnClass, {"optimizer": ONE}),
        (so.Byol, {"optimizer": {**ONE, "weight_decay_factor": 0.0}}),
    ],
)
def test_a_module_changed_as_the_code_says_trains_as_the_recipe_does(model: Any, recipe: dict[str, Any]) -> None:
    made = Recipe.from_dict(recipe)
    text, notes = python_text(made, USE)
    moved, given = load(text), arguments(text)

    class Changed(model):
        def configure_optimizers(self) -> Any:
            configured = super().configure_optimizers()
            first = configured["optimizer"] if isinstance(configured, dict) else configured
            optimizers = first[0] if isinstance(first, tuple) else first
            for one, factors in zip(optimizers if isinstance(optimizers, list) else [optimizers], given, strict=True):
                assert moved(one, **factors) is one
            return configured

    expected, got, plain = train(model(), RecipeCallback(made)), train(Changed()), train(model())
    assert notes == ()
    assert any(not torch.equal(expected[name], plain[name]) for name in expected)
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_where_nothing_is_moved_there_is_nothing_to_change() -> None:
    text, _ = python_text(Recipe.of_baseline(), USE)
    assert "def moved" not in text
    assert "# Nothing beats your own optimizer: there is nothing to change.\n" in text


@pytest.mark.parametrize(
    ("replaced", "optimizers", "said"),
    [
        ("Adam(lr=0.0002)", [{"name": "own", "lr_factor": 100}], "# In short: lr 0.0002 becomes 0.02;"),
        (
            "gen: Adam(lr=0.0002), disc: SGD(lr=0.1)",
            [{"name": "own", "lr_factor": 10}],
            "# In short: gen: lr 0.0002 becomes 0.002, disc: lr 0.1 becomes 1;",
        ),
        (
            "gen: Adam(lr=0.0002), disc: SGD(lr=0.1)",
            ["own", {"name": "own", "lr_factor": 10}],
            "# In short: disc: lr 0.1 becomes 1;",
        ),
        # several rates, another change, an optimizer without a rate, nothing known
        ("Adam(lr=0.01..0.1)", [{"name": "own", "lr_factor": 10}], ""),
        ("Adam(lr=0.01)", [{"name": "own", "lr_factor": 10, "weight_decay_factor": 2}], ""),
        ("0: Adam(lr=0.01), 1: Prodigy", [{"name": "own", "lr_factor": 10}], ""),
        ("", [{"name": "own", "lr_factor": 10}], ""),
    ],
)
def test_where_only_the_rate_moves_the_code_says_the_new_rate_first(
    replaced: str, optimizers: list[Any], said: str
) -> None:
    text, _ = python_text(Recipe.from_dict({"optimizers": optimizers}), replace(USE, replaced=replaced))

    assert said in text
    assert ("In short" in text) == bool(said)


def test_a_common_factor_of_several_optimizers_is_for_each_of_them() -> None:
    recipe = Recipe.from_dict({"optimizer": ONE})
    several, _ = python_text(recipe, replace(USE, replaced="0: Adam(lr=0.1), 1: Adam(lr=0.1)", model_name="Gan"))
    one, _ = python_text(recipe, replace(USE, replaced="Adam(lr=0.1)"))

    assert (
        "the file of Gan, and at the end of configure_optimizers, before it returns, for each optimizer:\n" in several
    )
    assert "the file of your module, and at the end of configure_optimizers, before it returns:\n" in one


def test_the_code_says_which_seed_the_training_had() -> None:
    assert (
        "# before the module is made: seed_everything(0, workers=True)\n" in python_text(Recipe.of_baseline(), USE)[0]
    )


def test_under_manual_optimization_the_module_clips_and_accumulates_itself() -> None:
    recipe = Recipe.from_dict({"optimizer": ONE, "gradient_clip_norm": 1.0, "accumulate_grad_batches": 2})
    manual, _ = python_text(recipe, replace(USE, is_manual=True))

    assert "TRAINER = {'max_steps': 40}\n" in manual
    assert "'gradient_clip_val': 1.0" in python_text(recipe, USE)[0]


def test_a_recipe_that_replaces_one_of_several_needs_opttune() -> None:
    for recipe in ({"optimizers": ["own", "adamw"]}, {"optimizer": "own", "schedule": "cosine"}):
        made = Recipe.from_dict(recipe)
        assert is_own(made)
        with pytest.raises(InputError, match=r"needs opttune\. Use --format recipe or lightning-cli"):
            own_text(made, USE)
        with pytest.raises(InputError, match="needs opttune"):
            python_text(made, USE)


def test_a_recipe_of_the_catalog_is_none_of_the_modules_own() -> None:
    assert not is_own(Recipe.from_dict({"optimizers": ["sgd", "adamw"]}))


@pytest.mark.parametrize("recipe", [{"optimizers": ["sgd", {"name": "adamw", "lr": 0.1}]}])
def test_several_of_the_catalog_are_exported_or_refused_in_words(recipe: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Use --format recipe or lightning-cli"):
        python_text(Recipe.from_dict(recipe), USE)
