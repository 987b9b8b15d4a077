import math
from dataclasses import replace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opttune.catalog import check_recipe
from opttune.catalog.lookup import find_optimizer
from opttune.space import auto
from opttune.space.auto import (
    MAYBE_PRETRAINED,
    SMALL_PRETRAINED,
    TRAINED_NORMS,
    ModelFacts,
    Plan,
    choose_space,
    plan_for,
)
from opttune.space.model import Choice, Fixed, Range, SettledSpace
from opttune.space.own import OwnFacts
from opttune.space.parse import load_space, space_names
from opttune.space.sample import default_parameters, sample_recipe
from opttune.space.settle import settle
from tests.support.strategies import FAST

optuna.logging.set_verbosity(optuna.logging.WARNING)
PLANS = [value for value in vars(auto).values() if isinstance(value, Plan)]

MLP = ModelFacts(100_000, has_norms=True, has_hidden_matrices=True)
CNN = ModelFacts(11_000_000, has_convolutions=True, has_norms=True, has_hidden_matrices=True)
LSTM = ModelFacts(4_000_000, is_recurrent=True, has_embeddings=True, has_hidden_matrices=True)
SMALL_GPT = ModelFacts(2_000_000, has_attention=True, has_norms=True, has_embeddings=True, has_hidden_matrices=True)
GPT = ModelFacts(124_000_000, has_attention=True, has_norms=True, has_embeddings=True, has_hidden_matrices=True)
VIT = ModelFacts(22_000_000, has_attention=True, has_convolutions=True, has_norms=True, has_hidden_matrices=True)
LORA = ModelFacts(7_000_000_000, 0.003, has_attention=True, has_norms=True, has_lora=True, has_hidden_matrices=True)
BERT = ModelFacts(110_000_000, has_attention=True, has_norms=True, looks_pretrained=True, has_hidden_matrices=True)
HEAD = ModelFacts(25_000_000, 0.01, has_convolutions=True, has_norms=True)
TOP = ModelFacts(25_000_000, 0.3, has_convolutions=True, has_norms=True, has_hidden_matrices=True)
ALL = [MLP, CNN, LSTM, SMALL_GPT, GPT, VIT, LORA, BERT, HEAD, TOP, ModelFacts(0)]

facts_of_any_module = st.builds(
    ModelFacts,
    st.sampled_from([0, 1, 1_000, 10**6, 10**8, 10**10]),
    st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0]),
    *[st.booleans()] * 8,
    st.sampled_from([None, False, True]),
)


def names(chosen: SettledSpace) -> list[str]:
    return [branch.name for branch in chosen.space.optimizers]


def test_the_trained_parameters_are_a_share_of_all() -> None:
    assert ModelFacts(parameters=1000, trainable_share=0.25).trainable == 250
    assert ModelFacts(parameters=0).trainable == 0


def test_by_itself_a_module_is_nothing_in_particular() -> None:
    facts = ModelFacts(parameters=1)
    assert not any(getattr(facts, name) for name in ModelFacts.__dataclass_fields__ if name.startswith(("has_", "is_")))


@pytest.mark.parametrize(
    ("facts", "home"),
    [
        (ModelFacts(10**6, 0.01, has_lora=True, has_attention=True), "lora"),
        (ModelFacts(10**6, is_recurrent=True), "rnn"),
        (ModelFacts(10**5), "wide"),
        (ModelFacts(10**8, looks_pretrained=True, has_attention=True), "finetune"),
    ],
)
def test_a_kind_of_module_has_a_home_among_the_shipped_spaces(facts: ModelFacts, home: str) -> None:
    assert plan_for(facts, total_steps=1000).home == home


@pytest.mark.parametrize("steps", [300, 100_000])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("convolutions", [False, True])
def test_every_pick_is_in_the_space_that_it_names(steps: int, attention: bool, convolutions: bool) -> None:
    plan = plan_for(ModelFacts(10**8, has_attention=attention, has_convolutions=convolutions), steps)
    for pick in plan.picks:
        assert pick.optimizer in {branch.name for branch in load_space(pick.space).optimizers}


@pytest.mark.parametrize(
    ("facts", "steps", "home", "first"),
    [
        (MLP, 100, "wide", "adamw"),
        (MLP, 300, "wide", "muon"),
        (MLP, 5_000, "wide", "adamw"),
        (CNN, 300, "wide", "muon"),
        (CNN, 20_000, "wide", "sgd"),
        (LSTM, 300, "rnn", "muon"),
        (LSTM, 5_000, "rnn", "adam"),
        (SMALL_GPT, 1_000, "wide", "muon"),
        (SMALL_GPT, 2_000, "wide", "adamw"),
        (GPT, 100_000, "adamw_pretrain", "adamw"),
        (GPT, 500, "wide", "muon"),
        (VIT, 50_000, "vision_adamw", "adamw"),
        (VIT, 300, "wide", "muon"),
        (LORA, 1_000, "lora", "adamw"),
        (BERT, 1_000, "finetune", "adamw"),
        (HEAD, 1_000, "small_data", "adamw"),
        (TOP, 1_000, "finetune", "adamw"),
        (ModelFacts(0), 1_000, "wide", "adamw"),
    ],
)
def test_each_kind_of_module_gets_its_space(facts: ModelFacts, steps: int, home: str, first: str) -> None:
    assert plan_for(facts, steps).home == home
    assert names(choose_space(facts, steps, 30))[0] == first


def test_convolutions_without_norms_start_with_adamw_and_always_clip() -> None:
    bare = ModelFacts(100_000, has_convolutions=True, has_hidden_matrices=True)
    chosen = choose_space(bare, 20_000, 30)

    assert names(chosen)[0] == "adamw"
    assert dict(chosen.space.training)["gradient_clip_norm"] == Fixed(1.0)
    assert any("clipped" in reason for reason in chosen.notes)
    assert isinstance(dict(choose_space(CNN, 20_000, 30).space.training)["gradient_clip_norm"], Choice)


@pytest.mark.parametrize(("budget", "optimizers", "schedules"), [(1, 1, 1), (5, 2, 2), (10, 3, 3), (25, 5, 3)])
def test_the_budget_says_how_much_is_compared(budget: float, optimizers: int, schedules: int) -> None:
    space = choose_space(MLP, 300, budget).space

    assert (len(space.optimizers), len(space.schedules)) == (optimizers, schedules)


def test_muon_is_only_for_modules_with_hidden_matrices() -> None:
    assert "muon" in names(choose_space(MLP, 300, math.inf))
    assert "muon" not in names(choose_space(ModelFacts(20), 300, math.inf))


def test_the_length_moves_the_priors_and_the_reasons_say_so() -> None:
    short, long = choose_space(MLP, 300, 30), choose_space(MLP, 100_000, 30)
    rates = [
        branch.get("lr") for chosen in (short, long) for branch in chosen.space.optimizers if branch.name == "adamw"
    ]

    assert [rate.prior for rate in rates if isinstance(rate, Range)] == [1e-2, 1e-3]
    assert any(
        "300 steps are few: muon at 0.04 instead of 0.02, adamw at 0.01 instead of 0.001" in why for why in short.notes
    )
    assert "For the same reason other fields start elsewhere: momentum of muon at 0.9 instead of 0.95." in short.notes
    assert not any("steps are few" in reason or "same reason" in reason for reason in long.notes)


@pytest.mark.parametrize(
    ("steps", "prior", "high"), [(300, 9.49e-5, 3.16e-4), (29_999, 3e-5, 1e-4), (30_000, 3e-5, 1e-4)]
)
def test_fine_tuning_starts_higher_in_short_trainings(steps: int, prior: float, high: float) -> None:
    chosen = choose_space(BERT, steps, 30)
    rate = chosen.space.optimizers[0].get("lr")

    assert isinstance(rate, Range)
    assert (rate.low, rate.prior, rate.high) == (1e-5, prior, high)
    assert (f"adamw at {prior:g} instead of 3e-05" in " ".join(chosen.notes)) == (steps == 300)


def test_adapters_start_at_the_same_rate_for_any_length() -> None:
    rates = [choose_space(LORA, steps, 30).space.optimizers[0].get("lr") for steps in (300, 30_000)]

    assert [rate.prior for rate in rates if isinstance(rate, Range)] == [2e-4, 2e-4]


def test_the_reasons_do_not_name_a_start_that_the_module_replaces() -> None:
    own = OwnFacts("AdamW(lr=2e-05)", row="adamw", values={"lr": 2e-5})
    chosen = choose_space(replace(BERT, own=own), 300, 30)

    assert "adamw starts at the module's own values: lr 2e-05." in chosen.notes
    assert not any("instead of" in reason for reason in chosen.notes)


def test_muon_goes_first_in_short_trainings_where_more_than_one_optimizer_is_searched() -> None:
    reason = "Muon is tried first"

    assert names(choose_space(MLP, 300, 8)) == ["muon", "adamw"]
    assert names(choose_space(MLP, 300, 4)) == ["adamw"]
    assert names(choose_space(MLP, 300, 30)) == ["muon", "adamw", "sgd", "nadamw", "lion"]
    assert names(choose_space(MLP, 100, 30)) == ["adamw", "muon", "sgd", "nadamw", "lion"]
    assert names(choose_space(LSTM, 300, 8)) == ["muon", "adam"]
    assert any(why.startswith(reason) for why in choose_space(MLP, 300, 8).notes)
    assert not any(why.startswith(reason) for why in choose_space(MLP, 100, 30).notes)


def test_a_small_budget_holds_fields_and_the_reasons_name_each_once() -> None:
    reasons = choose_space(MLP, 300, 8).notes
    said = next(reason for reason in reasons if "too small to vary" in reason)

    assert said.count("weight_decay") == 1
    assert not any("too small to vary" in reason for reason in choose_space(MLP, 300, 30).notes)


def test_the_user_of_a_transformer_is_told_that_it_may_be_pretrained() -> None:
    assert MAYBE_PRETRAINED in choose_space(GPT, 100_000, 30).notes
    assert MAYBE_PRETRAINED not in choose_space(LORA, 1_000, 30).notes
    assert MAYBE_PRETRAINED not in choose_space(BERT, 1_000, 30).notes


def test_trained_norms_make_a_large_network_pretrained_and_new_ones_end_the_doubt() -> None:
    large = replace(GPT, has_trained_norms=True)
    assert plan_for(large, 100_000).home == "finetune"
    assert TRAINED_NORMS in choose_space(large, 100_000, 30).notes
    small = replace(large, parameters=1_000_000)
    assert plan_for(small, 1_000).is_from_scratch
    assert SMALL_PRETRAINED in choose_space(small, 1_000, 30).notes
    new = replace(GPT, has_trained_norms=False)
    assert plan_for(new, 100_000).home == plan_for(GPT, 100_000).home
    assert not {MAYBE_PRETRAINED, TRAINED_NORMS, SMALL_PRETRAINED} & {*choose_space(new, 100_000, 30).notes}
    # a name of the origin leaves no doubt, unless the weights are new
    assert TRAINED_NORMS not in choose_space(replace(BERT, has_trained_norms=True), 1_000, 30).notes
    assert plan_for(replace(BERT, has_trained_norms=False), 1_000).is_from_scratch


def test_weights_that_count_as_pretrained_by_their_norms_are_named_in_any_case() -> None:
    facts = replace(GPT, has_trained_norms=True)
    found = settle(load_space("wide"), "auto", trainer={}, facts=facts, total_steps=1_000, budget=30)
    assert found.warnings == (TRAINED_NORMS,)
    assert TRAINED_NORMS in found.notes


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.words[:20])
def test_every_pick_is_in_a_shipped_space_and_mixes_with_the_others(plan: Plan) -> None:
    assert plan.home in space_names()
    for pick in plan.picks:
        assert pick.optimizer in [branch.name for branch in load_space(pick.space).optimizers]
        info = find_optimizer(pick.optimizer)
        # schedules, clipping and groups are one for all recipes of a space
        assert not any((info.own_clipping, info.own_schedule, info.one_lr, info.needs_create_graph, info.extra))
    assert len({pick.optimizer for pick in plan.picks}) == len(plan.picks)


@pytest.mark.parametrize("facts", ALL)
@pytest.mark.parametrize("budget", [1, 20])
def test_branches_are_those_of_shipped_spaces_and_rates_may_reach_higher(facts: ModelFacts, budget: float) -> None:
    shipped = {
        (branch.name, name, field.low, field.source): field.high
        for space in space_names()
        for branch in load_space(space).optimizers
        for name, field in branch.fields
        if isinstance(field, Range)
    }
    for branch in choose_space(facts, 1_000, budget).space.optimizers:
        for name, field in branch.fields:
            if isinstance(field, Range):
                high = shipped[branch.name, name, field.low, field.source]
                assert field.high == high or (name == "lr" and field.high > high)


@pytest.mark.slow
@FAST
@given(facts_of_any_module, st.integers(1, 10**6), st.floats(0.1, 100))
def test_any_facts_give_recipes_that_the_catalog_takes(facts: ModelFacts, steps: int, budget: float) -> None:
    chosen = choose_space(facts, steps, budget)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    check_recipe(sample_recipe(chosen.space, optuna.trial.FixedTrial(default_parameters(chosen.space, 0))))
    check_recipe(sample_recipe(chosen.space, study.ask()))
    assert all(reason.endswith(".") and "\n" not in reason for reason in chosen.notes)
    assert chosen == choose_space(facts, steps, budget)
