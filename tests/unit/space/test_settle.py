from dataclasses import replace
from typing import Any

import pytest

from opttune.space.auto import ModelFacts
from opttune.space.model import Choice, Fixed, Range, Scalar, SettledSpace, Space
from opttune.space.parse import load_space, settled_from_dict, settled_to_dict
from opttune.space.sample import default_parameters
from opttune.space.settle import EarlierBest, settle, with_earlier_best, without_trainer_settings
from tests.support.searches import TINY, make_space

FACTS = ModelFacts(parameters=10_000, has_hidden_matrices=True)

SPACE = make_space("""
optimizer:
  adamw:
    lr: {low: 1e-5, high: 1e-1, log: true, prior: 1e-3, source: test}
    beta2: {low: 0.5, high: 0.999, log_of_one_minus: true, prior: 0.9, source: test}
    weight_decay: {choices: [0.0, 0.1, 0.2], source: test}
  sgd:
    lr: {low: 1e-4, high: 1.0, log: true, prior: 1e-2, source: test}
    momentum: 0.9
schedule:
  constant: {}
  linear: {warmup_fraction: {low: 0.0, high: 0.1, source: test}}
  cosine: {warmup_fraction: {low: 0.0, high: 0.1, source: test}}
accumulate_grad_batches: {low: 1, high: 8, prior: 1, source: test}
""")
SETTLED = SettledSpace(SPACE, ("noted before",))
ADAMW: dict[str, Scalar] = {
    "optimizer": "adamw",
    "schedule": "linear",
    "adamw.lr": 0.02,
    "adamw.one_minus_beta2": 0.01,
    "adamw.weight_decay": 0.2,
    "linear.warmup_fraction": 0.05,
    "accumulate_grad_batches": 4,
}
SGD: dict[str, Scalar] = {"optimizer": "sgd", "schedule": "constant", "sgd.lr": 0.5, "accumulate_grad_batches": 2}


def settled_as(name: str, budget: float, steps: int = 300, **more: Any) -> SettledSpace:
    """Settle a space that ships with opttune."""
    settings = {"trainer": {}, "facts": FACTS, "total_steps": steps, "budget": budget, **more}
    return settle(load_space(name), name, **settings)


def varying(space: Space) -> set[str]:
    return {name for name, _ in space.parameters()}


def earlier(parameters: dict[str, Scalar], **more: Any) -> EarlierBest:
    merged = {**parameters, **more}
    return EarlierBest(str(merged["optimizer"]), str(merged["schedule"]), merged, 0.5)


def warm(*found: EarlierBest, space: Space = SPACE) -> Space:
    return with_earlier_best(SettledSpace(space), found).space


def test_auto_chooses_and_says_why() -> None:
    settled = settled_as("auto", budget=12)

    assert settled.space.name == "auto"
    assert any("adamw" in note for note in settled.notes)


def test_a_small_budget_holds_what_it_does_not_pay_for_and_says_so() -> None:
    settled = settled_as("adamw", budget=5)

    assert varying(settled.space) == {"adamw.lr", "schedule"}
    assert "adamw.beta2 = 0.999 (varies from a budget of 25 trainings on)" in settled.notes[0]


def test_a_large_budget_varies_all_that_the_space_does() -> None:
    settled = settled_as("adamw", budget=40)

    assert varying(settled.space) == varying(load_space("adamw"))
    assert settled.notes == ()


@pytest.mark.parametrize(("steps", "centre"), [(300, 1e-2), (100_000, 1e-3)])
def test_learning_rates_start_higher_in_short_trainings(steps: int, centre: float) -> None:
    branch = settled_as("wide", budget=40, steps=steps).space.optimizers[0]
    lr = branch.get("lr")

    assert branch.name == "adamw"
    assert lr is not None
    assert lr.centre == pytest.approx(centre)


def test_a_space_of_the_users_own_stays_with_any_budget_and_length() -> None:
    space = make_space(TINY)

    assert settle(space, "", trainer={}, facts=FACTS, total_steps=300, budget=2) == SettledSpace(space)


@pytest.mark.parametrize("name", ["auto", "wide", "rnn"])
def test_what_the_trainer_settles_does_not_vary_in_a_shipped_space(name: str) -> None:
    space = settled_as(name, budget=40, trainer={"gradient_clip_val": 0.5, "accumulate_grad_batches": 4}).space

    assert dict(space.training) == {"gradient_clip_norm": Fixed(0.5), "accumulate_grad_batches": Fixed(4)}


def test_what_the_trainer_settles_comes_last_and_the_rest_stays() -> None:
    space = make_space(TINY + "gradient_clip_norm: {choices: [1.0, null]}\naccumulate_grad_batches: {choices: [1, 2]}")

    assert without_trainer_settings(space, {"accelerator": "cpu"}) == space
    assert without_trainer_settings(space, {"gradient_clip_val": 0}).training == (
        ("accumulate_grad_batches", Choice((1, 2))),
        ("gradient_clip_norm", Fixed(None)),
    )


def test_an_earlier_study_teaches_a_shipped_space_and_one_of_the_users_own() -> None:
    best = [EarlierBest("adamw", "cosine", {"adamw.lr": 2e-4}, 0.5)]
    shipped = settled_as("adamw", budget=40, earlier=best)
    own = settle(SPACE, "", trainer={}, facts=FACTS, total_steps=300, budget=2, earlier=best)

    assert [settled.space.optimizers[0].fields[0][1].centre for settled in (shipped, own)] == [2e-4, 2e-4]
    assert [settled.notes[-1] for settled in (shipped, own)] == [
        "Starts from the best of an earlier study: lr of adamw 0.0002.",
        "Starts from the best of an earlier study, with adamw first: lr of adamw 0.0002.",
    ]


def test_only_the_best_trial_teaches_what_all_recipes_share() -> None:
    cosine = earlier(SGD, schedule="cosine", **{"cosine.warmup_fraction": 0.02})
    space = warm(earlier(ADAMW), cosine)

    assert [branch.name for branch in space.schedules] == ["linear", "constant", "cosine"]
    assert space.schedules[2] == SPACE.schedules[2]


def test_the_default_recipes_are_what_was_best() -> None:
    space = warm(earlier(ADAMW), earlier(SGD))

    # of what all recipes share, the best trial's counts; so does its schedule
    shared = {name: ADAMW[name] for name in ("schedule", "linear.warmup_fraction", "accumulate_grad_batches")}
    assert default_parameters(space, 0) == pytest.approx(ADAMW)
    assert default_parameters(space, 1) == {**SGD, **shared}


def test_ranges_and_choices_stay_as_they_are() -> None:
    space = warm(earlier(ADAMW), earlier(SGD))
    for before, after in zip(SPACE.optimizers, space.optimizers, strict=True):
        for (name, field), (same, moved) in zip(before.fields, after.fields, strict=True):
            assert name == same
            assert type(field) is type(moved)
            if isinstance(field, Range) and isinstance(moved, Range):
                assert (field.low, field.high, field.scale) == (moved.low, moved.high, moved.scale)
            if isinstance(field, Choice) and isinstance(moved, Choice):
                assert field.choices == moved.choices
            if isinstance(field, Fixed):
                assert field == moved


def test_optimizers_and_the_schedule_that_were_best_come_first() -> None:
    space = warm(earlier(SGD, schedule="linear"), earlier(ADAMW))

    assert [branch.name for branch in space.optimizers] == ["sgd", "adamw"]
    assert [branch.name for branch in space.schedules] == ["linear", "constant", "cosine"]


def test_an_optimizer_that_was_not_tried_comes_last_with_the_prior_it_had() -> None:
    space = warm(earlier(SGD))

    assert [branch.name for branch in space.optimizers] == ["sgd", "adamw"]
    assert space.optimizers[1] == SPACE.optimizers[0]


@pytest.mark.parametrize(("rate", "prior"), [(1e-9, 1e-5), (0.05, 0.05), (7.0, 0.1)])
def test_what_lies_outside_a_range_is_moved_to_its_end(rate: float, prior: float) -> None:
    lr = warm(earlier(ADAMW, **{"adamw.lr": rate})).optimizers[0].get("lr")

    assert isinstance(lr, Range)
    assert lr.prior == prior


@pytest.mark.parametrize(("asked", "prior"), [(0.05, 0.95), (1e-6, 0.999), (0.9, 0.5)])
def test_a_decay_rate_is_read_back_from_its_distance_to_one(asked: float, prior: float) -> None:
    beta2 = warm(earlier(ADAMW, **{"adamw.one_minus_beta2": asked})).optimizers[0].get("beta2")

    assert isinstance(beta2, Range)
    assert beta2.prior == pytest.approx(prior)


@pytest.mark.parametrize(("decay", "start"), [(0.1, 0.1), (0.2, 0.2), (0.3, 0.0)])
def test_a_choice_starts_with_what_was_best_if_it_is_one_of_them(decay: float, start: float) -> None:
    field = warm(earlier(ADAMW, **{"adamw.weight_decay": decay})).optimizers[0].get("weight_decay")

    assert field is not None
    assert field.centre == start


def test_a_schedule_that_the_space_lacks_changes_no_order() -> None:
    space = warm(earlier(ADAMW, schedule="wsd"))

    assert space.schedules[0] == SPACE.schedules[0]
    assert [branch.name for branch in space.schedules] == ["constant", "linear", "cosine"]


def test_an_optimizer_that_the_space_lacks_is_passed_over() -> None:
    lion = EarlierBest("lion", "linear", {"optimizer": "lion", "schedule": "linear", "lion.lr": 1e-4}, 0.1)
    settled = with_earlier_best(SETTLED, [lion, earlier(SGD)])

    assert [branch.name for branch in settled.space.optimizers] == ["sgd", "adamw"]
    assert settled.space == warm(earlier(SGD))


def test_a_study_of_other_optimizers_alone_teaches_nothing_and_says_so() -> None:
    lion = EarlierBest("lion", "linear", {"lion.lr": 1e-4}, 0.1)
    settled = with_earlier_best(SETTLED, [lion])

    assert settled.space == SPACE
    assert settled.notes[0] == "noted before"
    assert "tried lion, which this space does not have" in settled.notes[1]


def test_what_the_search_starts_from_is_noted() -> None:
    notes = with_earlier_best(SETTLED, [earlier(ADAMW), earlier(SGD)]).notes

    assert notes[0] == "noted before"
    assert notes[1] == "Starts from the best of an earlier study, with adamw first: lr of adamw 0.02, sgd 0.5."


def test_whole_numbers_stay_whole() -> None:
    found = [default_parameters(warm(earlier(ADAMW)), index)["accumulate_grad_batches"] for index in range(2)]

    assert found == [4, 4]
    assert all(isinstance(value, int) for value in found)


def test_a_module_that_steps_its_optimizers_itself_clips_and_accumulates_itself() -> None:
    manual = replace(FACTS, is_manual=True)
    mine = make_space(TINY + "gradient_clip_norm: {choices: [1.0, null], source: test}\naccumulate_grad_batches: 2")
    settled = settle(mine, "", trainer={}, facts=manual, total_steps=300, budget=20)

    assert settled.space.training == ()
    assert settled.notes == (
        "Left out, because the module's training_step does this itself: gradient_clip_norm, accumulate_grad_batches.",
    )
    assert settle(mine, "", trainer={}, facts=FACTS, total_steps=300, budget=20).space == mine
    assert "gradient_clip_norm" in varying(settled_as("wide", 30).space)
    assert "gradient_clip_norm" not in varying(settled_as("wide", 30, facts=manual).space)


REACHING = """
optimizer:
  adamw:
    lr: {low: 1e-4, high: 5e-4, log: true, prior: 3e-4, reach: [1e-5, 0.1], source: test}
    weight_decay: {low: 0.001, high: 0.1, log: true, source: test}
    beta2: {low: 0.9, high: 0.999, log_of_one_minus: true, source: test}
    eps: 1e-8
schedule: {linear: {warmup_fraction: {choices: [0.0, 0.1], source: test}}, constant: {}}
"""


def rate_of(space: Space) -> Range:
    field = space.optimizers[0].rate
    assert isinstance(field, Range)
    return field


@pytest.mark.parametrize(
    ("lr", "expected"),
    [(3e-3, (1e-4, 3e-2, 3e-3)), (0.03, (1e-4, 0.1, 0.03)), (5e-5, (1e-5, 5e-4, 5e-5)), (2e-4, (1e-4, 5e-4, 2e-4))],
)
def test_an_earlier_rate_beyond_a_range_is_kept_within_its_reach(lr: float, expected: tuple[float, ...]) -> None:
    settled = with_earlier_best(SettledSpace(make_space(REACHING)), [EarlierBest("adamw", "", {"adamw.lr": lr}, 0.5)])
    rate = rate_of(settled.space)

    assert (rate.low, rate.high, rate.prior) == pytest.approx(expected)
    assert settled.notes == (f"Starts from the best of an earlier study: lr of adamw {lr:.3g}.",)


def test_the_ranges_of_a_shipped_space_are_no_walls_for_an_earlier_best() -> None:
    best = [EarlierBest("adamw", "cosine", {"adamw.lr": 0.03}, 0.5)]
    settled = settled_as("finetune", budget=5, earlier=best)

    assert rate_of(settled.space).prior == 0.03
    assert len(settled.notes) == len(settled_as("finetune", budget=5).notes) + 1


def test_each_earlier_value_that_must_change_is_named_with_the_reason() -> None:
    text = REACHING.replace(", reach: [1e-5, 0.1]", "")
    parameters: dict[str, Scalar] = {
        "schedule": "linear", "adamw.lr": 0.03, "adamw.weight_decay": 0.01, "adamw.one_minus_beta2": 0.2,
        "adamw.eps": 1e-7, "linear.warmup_fraction": 0.3,
    }  # fmt: skip
    best = EarlierBest("adamw", "linear", parameters, 0.5, "trial 7 of old")
    settled = with_earlier_best(SettledSpace(make_space(text, "mine")), [best])

    assert rate_of(settled.space).prior == 5e-4
    assert settled.notes[1:] == (
        "The adamw.lr 0.03 of trial 7 of old became 0.0005: the space mine allows 0.0001 to 0.0005.",
        "The adamw.beta2 0.8 of trial 7 of old became 0.9: the space mine allows 0.9 to 0.999.",
        "The adamw.eps 1e-07 of trial 7 of old became 1e-08: the space mine does not vary it.",
        "The linear.warmup_fraction 0.3 of trial 7 of old became 0: it is not a choice of the space mine.",
    )


def test_beyond_its_reach_an_earlier_rate_becomes_the_end_of_the_reach() -> None:
    best = EarlierBest("adamw", "", {"adamw.lr": 3.0}, 0.5, "training 2 of the file x.csv")
    settled = with_earlier_best(SettledSpace(make_space(REACHING, "mine")), [best])

    assert rate_of(settled.space).prior == 0.1
    assert settled.notes[1:] == (
        "The adamw.lr 3 of training 2 of the file x.csv became 0.1: the space mine allows 1e-05 to 0.1.",
    )


def test_what_the_space_does_not_have_is_named() -> None:
    best = EarlierBest("adamw", "cosine", {"adamw.lr": 2e-4, "adamw.beta1": 0.8, "cosine.cycles": 2}, 0.4, "trial 3")
    other = EarlierBest("lion", "linear", {"lion.lr": 1e-4}, 0.5, "trial 5")
    settled = with_earlier_best(SettledSpace(make_space(REACHING, "mine")), [best, other])

    assert settled.notes[1:] == (
        "Not used: trial 5 (lion), which the space mine does not have.",
        "Not used: the schedule cosine of trial 3, which the space mine does not have.",
        "Not used: adamw.beta1 of trial 3, which the space mine does not have.",
    )
    assert settled.warnings == settled.notes[1:]
    assert settled_from_dict(settled_to_dict(settled)) == settled
