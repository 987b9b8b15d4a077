from dataclasses import replace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opttune.catalog import check_recipe
from opttune.catalog.lookup import optimizer_names
from opttune.catalog.training import TRAINING_OPTIONS
from opttune.space.fit import (
    FROM_BUDGET,
    HIGHEST_PLACE,
    Held,
    fields_for_budget,
    for_budget,
    for_length,
    longest_warmup,
    lr_factor,
    with_room,
)
from opttune.space.model import Branch, Choice, Field, Fixed, Range, Space
from opttune.space.parse import LR_TIMES_WEIGHT_DECAY, load_space, parse_space, space_names
from opttune.space.sample import default_parameters, sample_recipe
from tests.support.searches import make_space
from tests.support.strategies import FAST

LENGTHS = (1, 50, 300, 1_000, 3_000, 30_000, 1_000_000)

every_space = pytest.mark.parametrize("name", space_names())


def field_of(space: Space, optimizer: str, name: str) -> Field:
    field = {branch.name: branch for branch in space.optimizers}[optimizer].get(name)
    assert field is not None
    return field


def lr_of(space: Space, optimizer: str) -> Range:
    field = field_of(space, optimizer, "lr")
    assert isinstance(field, Range)
    return field


@pytest.mark.parametrize(("optimizer", "low", "high"), [("adamw", 1e-2, 3e-2), ("nadamw", 1e-2, 3e-2)])
def test_in_300_steps_wide_starts_where_recorded_sweeps_are_best(optimizer: str, low: float, high: float) -> None:
    lr = lr_of(for_length(load_space("wide"), 300), optimizer)

    assert lr.prior is not None
    assert low <= lr.prior <= high <= lr.high


def test_in_300_steps_wide_starts_lion_and_muon_where_they_are_best() -> None:
    wide = for_length(load_space("wide"), 300)

    assert 1e-3 <= (lr_of(wide, "lion").prior or 0) <= 4e-3
    assert (lr_of(wide, "muon").prior or 0) == 4e-2
    assert field_of(wide, "muon", "momentum").centre == 0.9


@every_space
def test_a_long_training_leaves_a_space_as_it_is(name: str) -> None:
    assert for_length(load_space(name), 30_000) == load_space(name)


@every_space
@pytest.mark.parametrize("steps", LENGTHS)
def test_only_priors_move_and_stay_in_their_ranges(name: str, steps: int) -> None:
    before, after = load_space(name), for_length(load_space(name), steps)

    assert (after.schedules, after.training, after.groups) == (before.schedules, before.training, before.groups)
    for old, new in zip(before.optimizers, after.optimizers, strict=True):
        for (key, was), (also, now) in zip(old.fields, new.fields, strict=True):
            assert key == also
            if was == now:
                continue
            assert key in ("lr", "momentum")
            if isinstance(was, Choice) and isinstance(now, Choice):
                assert now == replace(was, start=now.start)
                continue
            assert isinstance(was, Range)
            assert isinstance(now, Range)
            assert now == replace(was, prior=now.prior)
            assert key != "lr" or was.centre <= now.centre <= max(was.centre, was.at(HIGHEST_PLACE) * 1.01)


@pytest.mark.parametrize(("steps", "momentum"), [(50, 0.9), (1_000, 0.9), (10_000, 0.95), (30_000, 0.95)])
def test_choices_start_from_the_one_that_is_nearest(steps: int, momentum: float) -> None:
    wide = load_space("wide")
    moved, was = (field_of(space, "muon", "momentum") for space in (for_length(wide, steps), wide))

    assert isinstance(was, Choice)
    assert moved == replace(was, start=was.choices.index(momentum))


def test_a_range_moves_down_too_but_not_to_its_edge() -> None:
    lr, free, tight = (
        Range(1e-3, 0.2, "log", prior=2e-2),
        *(Range(low, 0.99, "log_of_one_minus", prior=0.95) for low in (0.5, 0.9)),
    )
    for momentum, expected in ((free, 0.9), (tight, tight.at(1 - HIGHEST_PLACE))):
        space = Space("mine", (Branch("muon", (("lr", lr), ("momentum", momentum))),))

        assert field_of(for_length(space, 300), "muon", "momentum").centre == pytest.approx(expected, rel=1e-3)


def test_a_rate_from_0_on_a_linear_scale_stays() -> None:
    space = Space("mine", (Branch("adamw", (("lr", Range(0.0, 1e-2, prior=0.0)),)),))

    assert for_length(space, 300) == space


@pytest.mark.parametrize("momentum", [Fixed(0.95), Choice(("0.95", 0.9)), Choice((True, 0.9)), Choice((1.0, 0.9))])
def test_what_is_fixed_or_has_no_place_stays(momentum: Field) -> None:
    lr = Range(1e-3, 0.2, "log", prior=2e-2)
    space = Space("mine", (Branch("muon", (("lr", lr), ("momentum", momentum))),))

    assert field_of(for_length(space, 300), "muon", "momentum") == momentum


@pytest.mark.parametrize("optimizer", optimizer_names())
def test_the_longer_the_training_the_smaller_the_factor(optimizer: str) -> None:
    factors = [lr_factor(optimizer, steps) for steps in LENGTHS]

    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == 1.0


def test_a_narrow_range_moves_no_further_than_draws_fall_on_both_sides() -> None:
    narrow = lr_of(for_length(load_space("vision_adamw"), 300), "adamw")

    assert narrow.prior == pytest.approx(narrow.at(HIGHEST_PLACE), rel=0.01)


@pytest.mark.parametrize("name", ["adamw", "adamw_pretrain", "finetune", "lora", "lion"])
def test_fine_tuning_and_pretraining_keep_their_customary_centres(name: str) -> None:
    assert for_length(load_space(name), 300) == load_space(name)


def test_a_centre_that_is_higher_already_stays() -> None:
    lr = Range(1e-4, 2e-3, "log", prior=2e-3)
    space = Space("mine", (Branch("adamw", (("lr", lr),)),))

    assert for_length(space, 300) == space


@pytest.mark.parametrize("field", [Fixed(1e-3), Choice((1e-3, 1e-2))])
def test_a_rate_that_is_no_range_stays(field: Fixed | Choice) -> None:
    space = Space("mine", (Branch("adamw", (("lr", field),)),))

    assert for_length(space, 300) == space


@FAST
@given(low=st.floats(1e-6, 1e-2), width=st.floats(1.01, 1e4), place=st.floats(0, 1), steps=st.integers(1, 10**6))
def test_any_range_keeps_its_prior_inside(low: float, width: float, place: float, steps: int) -> None:
    lr = Range(low, low * width, "log")
    lr = Range(low, low * width, "log", prior=lr.at(place))

    moved = lr_of(for_length(Space("mine", (Branch("adamw", (("lr", lr),)),)), steps), "adamw")

    assert moved.prior is not None
    assert lr.low <= moved.prior <= lr.high


@every_space
def test_room_is_only_made_upwards_and_only_in_short_trainings(name: str) -> None:
    space = load_space(name)

    assert with_room(space, 1_000_000) == space
    for before, after in zip(space.optimizers, with_room(space, 300).optimizers, strict=True):
        was, now = before.get("lr"), after.get("lr")
        if isinstance(was, Range) and isinstance(now, Range):
            assert now.high >= was.high
            assert replace(now, high=was.high) == was


def test_after_room_was_made_the_centre_moves_all_the_way() -> None:
    moved = for_length(with_room(load_space("rnn"), 300), 300).optimizers[0].get("lr")

    assert isinstance(moved, Range)
    assert moved.prior == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("schedule", "longest"),
    [
        ("constant: {warmup_fraction: 0.0}", 0.0),
        ("linear: {warmup_fraction: {low: 0.0, high: 0.15, source: test}}", 0.15),
        ("linear: {warmup_fraction: {choices: [0.0, 0.2, 0.05], source: test}}", 0.2),
        ("linear: {warmup_fraction: 0.05}, cosine: {warmup_fraction: 0.25}", 0.25),
        ("linear: {warmup_fraction: {low: 0.0, high: 0.8, source: test}}", 0.3),
        ("one_cycle: {rise_fraction: 0.2}", 0.2),
    ],
)
def test_the_longest_warmup_of_any_recipe_counts(schedule: str, longest: float) -> None:
    text = f"optimizer: {{sgd: {{lr: 0.1}}}}\nschedule: {{{schedule}}}"

    assert longest_warmup(make_space(text)) == longest


def test_a_schedule_that_does_not_say_warms_up_as_the_catalog_does() -> None:
    assert 0 < longest_warmup(make_space("optimizer: {sgd: {lr: 0.1}}\nschedule: one_cycle")) <= 0.3


def varying(space: Space) -> set[str]:
    return {name.rpartition(".")[2] for name, _ in space.parameters()}


@every_space
def test_below_10_only_the_rate_the_optimizer_and_the_schedule_vary(name: str) -> None:
    space, _ = for_budget(load_space(name), 9.9)

    assert varying(space) <= {"optimizer", "schedule", "lr", "lr_factor", "d_coef"}


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
