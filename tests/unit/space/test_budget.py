import optuna
import pytest

from opttune.catalog import check_recipe
from opttune.catalog.training import TRAINING_OPTIONS
from opttune.space.budget import FROM_BUDGET, Held, fields_for_budget, for_budget
from opttune.space.model import Branch, Choice, Fixed, Range, Space
from opttune.space.parse import LR_TIMES_WEIGHT_DECAY, load_space, parse_space, space_names
from opttune.space.sample import default_parameters, sample_recipe

every_space = pytest.mark.parametrize("name", space_names())


def varying(space: Space) -> set[str]:
    return {name.rpartition(".")[2] for name, _ in space.parameters()}


@every_space
def test_below_10_only_the_rate_the_optimizer_and_the_schedule_vary(name: str) -> None:
    space, _ = for_budget(load_space(name), 9.9)

    assert varying(space) <= {"optimizer", "schedule", "lr", "d_coef"}


@every_space
def test_from_10_warmup_weight_decay_and_beta1_vary_too(name: str) -> None:
    full = varying(load_space(name))
    space, _ = for_budget(load_space(name), 10)

    assert full & {"lr", "warmup_fraction", "weight_decay", "beta1", "momentum"} <= varying(space)
    assert not varying(space) & {"beta2", "eps", "gradient_clip_norm", "final_lr_fraction"}


@every_space
def test_from_25_everything_varies(name: str) -> None:
    assert for_budget(load_space(name), 25) == (load_space(name), ())


@every_space
@pytest.mark.parametrize("budget", [1, 10, 25])
def test_what_does_not_vary_is_held_at_its_centre(name: str, budget: float) -> None:
    full = dict(load_space(name).parameters())
    space, held = for_budget(load_space(name), budget)
    left = dict(space.parameters())

    assert full.keys() == left.keys() | {one.name for one in held}
    assert all(full[one.name].centre == one.value and one.from_budget > budget for one in held)
    assert all(full[key] == field for key, field in left.items())


@every_space
def test_the_default_recipes_are_the_same_for_any_budget(name: str) -> None:
    full = load_space(name)
    space, _ = for_budget(full, 1)
    for index in range(len(full.optimizers)):
        recipes = [sample_recipe(one, optuna.trial.FixedTrial(default_parameters(one, index))) for one in (full, space)]
        check_recipe(recipes[1])
        assert recipes[0] == recipes[1]


def test_every_field_of_the_trainer_has_a_least_budget() -> None:
    assert {option.name for option in TRAINING_OPTIONS} <= FROM_BUDGET.keys()


def test_the_product_of_rate_and_decay_counts_as_decay() -> None:
    fields = "{lr: {low: 1e-4, high: 1e-2, log: true}, lr_times_weight_decay: {low: 1e-6, high: 1e-4, log: true}}"
    space = parse_space(f"optimizer: {{adamw: {fields}}}", "mine")

    assert fields_for_budget(space, 9) == ("adamw.lr",)
    assert fields_for_budget(space, 10) == ("adamw.lr", f"adamw.{LR_TIMES_WEIGHT_DECAY}")


def test_a_whole_number_is_held_as_one_and_other_fields_wait_for_25() -> None:
    drops = Range(1, 4, integer=True, prior=2)
    space = Space("mine", (Branch("sgd"),), (Branch("step", (("drop_count", drops),)),))

    held_space, held = for_budget(space, 24)

    assert held == (Held("step.drop_count", 2, 25),)
    assert isinstance(held[0].value, int)
    assert held_space.schedules[0].get("drop_count") == Fixed(2)


def test_a_field_that_its_row_does_not_say_to_search_waits_for_25() -> None:
    space = Space("mine", (Branch("sgd", (("dampening", Choice((0.0, 0.1))),)),))

    assert fields_for_budget(space, 24) == ()
    assert fields_for_budget(space, 25) == ("sgd.dampening",)


def test_what_is_held_says_so_in_words() -> None:
    words = str(Held("adamw.weight_decay", 0.01, 10))

    assert words == "adamw.weight_decay = 0.01 (varies from a budget of 10 trainings on)"
    assert str(Held("gradient_clip_norm", None, 25)).startswith("gradient_clip_norm = null ")
