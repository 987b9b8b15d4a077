"""A recipe against its rows."""

from typing import Any

import pytest

from opttune.catalog import OptionInfo, ScheduleInfo, check_recipe, find_optimizer, find_schedule
from opttune.catalog.check import split_warmup, with_defaults
from opttune.errors import OpttuneError, RecipeError, UnknownNameError
from opttune.recipe import Part, Recipe


@pytest.mark.parametrize(
    ("optimizer", "schedule", "kind", "message"),
    [
        (Part("adamww"), Part("cosine"), UnknownNameError, r"f\.yaml: unknown optimizer 'adamww'\. Did you mean"),
        (Part("adamw"), Part("cosin"), UnknownNameError, r"f\.yaml: unknown schedule 'cosin'\. Did you mean"),
        (Part("sgd", {"betas": (0.9, 0.9)}), Part("cosine"), RecipeError, r"f\.yaml: optimizer 'sgd' takes no 'betas'"),
        (Part("adamw", {"lr": 0}), Part("cosine"), RecipeError, r"f\.yaml: optimizer adamw\.lr must be > 0, got 0\."),
        (
            Part("sgd", {"nesterov": True}),
            Part("cosine"),
            RecipeError,
            r"f\.yaml: optimizer sgd\.nesterov needs momentum > 0\.",
        ),
        (
            Part("sgd"),
            Part("multistep", {"milestones": (0.5, 1.0)}),
            RecipeError,
            r"f\.yaml: schedule multistep\.milestones must be > 0 and < 1, got 1\.0\.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(optimizer: Any, schedule: Any, kind: type[OpttuneError], message: str) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        check_recipe(Recipe(optimizer, schedule), "f.yaml")


def test_what_fits_passes() -> None:
    check_recipe(Recipe(Part("sgd", {"nesterov": True, "momentum": 0.9}), Part("multistep", {"milestones": (0.5,)})))


def test_defaults_fill_what_a_part_leaves_open() -> None:
    options = with_defaults(Part("lion", {"lr": 1e-3}), find_optimizer("lion"))
    assert options == {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}


def test_a_warmup_is_known_by_its_row_not_by_its_name() -> None:
    options = (OptionInfo("power", 1.0), OptionInfo("ramp", 0.25, rises="warmup"))
    row = ScheduleInfo("ramped", "nowhere.shape", "rises first", options, "test")

    assert row.warmup == options[1]
    assert split_warmup(Part("ramped"), row) == (0.25, {"power": 1.0})
    assert split_warmup(Part("ramped", {"ramp": 0.5}), row) == (0.5, {"power": 1.0})


@pytest.mark.parametrize("name", ["one_cycle", "cyclical"])
def test_a_schedule_without_a_warmup_keeps_all_its_options(name: str) -> None:
    info = find_schedule(name)

    assert split_warmup(Part(name), info) == (0.0, with_defaults(Part(name), info))
