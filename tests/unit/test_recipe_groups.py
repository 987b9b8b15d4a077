"""Groups and rules: reading, writing, refusing."""

from typing import Any

import pytest

from opttune.errors import RecipeError
from opttune.recipe import Groups, Part, Recipe, Rule

FULL = Groups(
    no_decay_norm_bias=False,
    no_decay_embeddings=True,
    layer_decay=0.75,
    rules=(Rule(r"^head\.", lr_mult=10.0), Rule("adapter", weight_decay_mult=0.0, as_matrix=False)),
    lora_plus_ratio=16.0,
)


@pytest.mark.parametrize("groups", [Groups(), FULL])
def test_groups_read_back_what_they_wrote(groups: Groups) -> None:
    assert Groups.from_dict(groups.to_dict()) == groups
    recipe = Recipe(Part("adamw"), groups=groups)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert hash(Recipe.from_dict(recipe.to_dict())) == hash(recipe)


def test_a_recipe_shows_its_groups_as_plain_values() -> None:
    flat = Recipe(Part("adamw"), groups=FULL).flat()
    assert flat["layer_decay"] == 0.75
    assert flat["lora_plus_ratio"] == 16.0
    assert flat["rules"] == (r"^head\.: lr x 10, weight decay x 1; adapter: lr x 1, weight decay x 0, as_matrix false")
    assert Recipe(Part("adamw")).flat()["rules"] is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, r"f\.yaml: groups must be a mapping, got None\."),
        ({"layer_decy": 0.5}, r"f\.yaml: groups: unknown key 'layer_decy'\. Did you mean 'layer_decay'\?"),
        ({"layer_decay": 0.0}, r"f\.yaml: groups\.layer_decay must be > 0 and <= 1, got 0\.0\."),
        ({"layer_decay": "0.5"}, r"f\.yaml: groups\.layer_decay must be > 0 and <= 1, got '0\.5'\."),
        ({"layer_decay": float("nan")}, r"f\.yaml: groups\.layer_decay must be > 0 and <= 1, got nan\."),
        ({"lora_plus_ratio": -1}, r"f\.yaml: groups\.lora_plus_ratio must be > 0, got -1\."),
        ({"no_decay_embeddings": 1}, r"f\.yaml: groups\.no_decay_embeddings must be true or false, got 1\."),
        ({"rules": {"match": "a"}}, r"f\.yaml: groups\.rules must be a list of rules, got \{'match': 'a'\}\."),
        ({"rules": ["a"]}, r"f\.yaml: groups\.rules: a rule is \{match: regex, .*\}, got 'a'\."),
        (
            {"rules": [{"lr_mult": 2}]},
            r"f\.yaml: groups\.rules: a rule is \{match: regex, .*\}, got \{'lr_mult': 2\}\.",
        ),
        (
            {"rules": [{"match": "a", "lr": 2}]},
            r"f\.yaml: groups\.rules: unknown key 'lr'\. Allowed: as_matrix, lr_mult",
        ),
        ({"rules": [{"match": "("}]}, r"f\.yaml: groups\.rules: match '\(' is not a regular expression: missing \)"),
        ({"rules": [{"match": ""}]}, r"f\.yaml: groups\.rules: match must be a regular expression, got ''\."),
        ({"rules": [{"match": "a", "lr_mult": -1}]}, r"f\.yaml: groups\.rules: lr_mult must be >= 0, got -1\."),
        (
            {"rules": [{"match": "a", "as_matrix": 1}]},
            r"f\.yaml: groups\.rules: as_matrix must be true, false or null, got 1\.",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_and_named(section: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}"):
        Recipe.from_dict({"optimizer": "adamw", "groups": section}, "f.yaml")


def test_rules_of_another_kind_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"groups\.rules must be a list of rules, got \[\]"):
        Groups(rules=[])  # type: ignore[arg-type]
