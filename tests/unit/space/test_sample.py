import warnings

import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from opttune.catalog import check_recipe
from opttune.recipe import Groups, Part, Recipe
from opttune.space.model import Branch, Choice, FieldError, Fixed, Range, Scalar, Space
from opttune.space.parse import load_space, parse_space, space_names
from opttune.space.sample import default_parameters, default_recipe, sample_recipe
from tests.support.strategies import FAST, spaces

optuna.logging.set_verbosity(optuna.logging.WARNING)


def sample_with(space: Space, **chosen: Scalar) -> Recipe:
    return sample_recipe(space, optuna.trial.FixedTrial({name.replace("__", "."): v for name, v in chosen.items()}))


@pytest.mark.slow
@pytest.mark.parametrize("name", space_names())
@pytest.mark.parametrize("sampler", [RandomSampler(seed=0), TPESampler(seed=0, n_startup_trials=5)])
def test_a_real_study_of_30_trials_gives_recipes_that_the_catalog_takes(name: str, sampler: BaseSampler) -> None:
    space = load_space(name)

    def objective(trial: optuna.Trial) -> float:
        recipe = sample_recipe(space, trial)
        check_recipe(recipe)
        lr = recipe.optimizer.rate
        assert isinstance(lr, float)
        return lr

    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=30)

    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.COMPLETE}


@pytest.mark.slow
@FAST
@given(spaces(), st.integers(0, 1000))
def test_any_space_gives_recipes_that_the_catalog_takes(space: Space, seed: int) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(5):
        check_recipe(sample_recipe(space, study.ask()))


@pytest.mark.slow
@FAST
@given(spaces(), st.integers(0, 1000))
def test_a_finished_trial_gives_its_recipe_again(space: Space, seed: int) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    trial = study.ask()
    recipe = sample_recipe(space, trial)
    study.tell(trial, 0.0)

    again = sample_recipe(space, optuna.trial.FixedTrial(study.trials[0].params))

    assert repr(again) == repr(recipe)


@pytest.mark.slow
@FAST
@given(spaces())
def test_the_default_recipe_of_every_optimizer_can_be_asked_for(space: Space) -> None:
    for index, branch in enumerate(space.optimizers):
        chosen = default_parameters(space, index)
        # FixedTrial only warns of a value outside its range, and a warning is an error here
        recipe = sample_recipe(space, optuna.trial.FixedTrial(chosen))
        check_recipe(recipe)
        assert recipe.optimizer.name == branch.name


def test_the_default_recipe_of_a_space_is_its_first_optimizers() -> None:
    assert (
        str(default_recipe(load_space("adamw")).optimizer) == "adamw(lr=0.0003, betas=(0.9, 0.999), weight_decay=0.01)"
    )
    assert default_recipe(load_space("wide")).optimizer.name == load_space("wide").optimizers[0].name


@pytest.mark.slow
@FAST
@given(spaces())
def test_default_parameters_are_what_an_enqueued_trial_is_asked_for(space: Space) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    chosen = default_parameters(space, 0)
    study.enqueue_trial(chosen)

    trial = study.ask()
    sample_recipe(space, trial)

    assert trial.params == chosen


@st.composite
def one_minus_ranges(draw: st.DrawFn) -> Range:
    low, high = sorted(draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2, unique=True)))
    try:
        return Range(low, high, "log_of_one_minus")
    except FieldError:
        assume(False)
        raise


@FAST
@given(one_minus_ranges(), st.integers(0, 1000))
def test_a_decay_rate_stays_in_its_range_to_the_last_digit(found: Range, seed: int) -> None:
    space = Space("mine", (Branch("sgd", (("momentum", found),)),))
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    asked = found.optuna_name("sgd.momentum")
    ends = [optuna.trial.FixedTrial({asked: found.to_optuna(end)}) for end in (found.low, found.high)]

    for trial in (*ends, study.ask(), study.ask()):
        momentum = sample_recipe(space, trial).optimizer["momentum"]
        assert isinstance(momentum, float)
        assert found.low <= momentum <= found.high


@pytest.mark.parametrize("value", [0.9, 0.95, 0.99, 0.995, 0.999])
def test_a_customary_decay_rate_comes_back_to_the_last_digit(value: float) -> None:
    found = Range(0.5, 0.9999, "log_of_one_minus", prior=value)
    space = Space("mine", (Branch("sgd", (("momentum", found),)),))

    recipe = sample_recipe(space, optuna.trial.FixedTrial(default_parameters(space, 0)))

    assert recipe.optimizer["momentum"] == value


def test_a_decay_rate_is_asked_for_as_its_distance_from_one() -> None:
    space = Space("mine", (Branch("adamw", (("beta2", Range(0.9, 0.999, "log_of_one_minus")),)),))
    trial = optuna.create_study().ask()

    sample_recipe(space, trial)

    assert trial.distributions["adamw.one_minus_beta2"].log  # type: ignore[attr-defined]


def test_parameters_carry_their_branch_and_only_the_chosen_branch_is_asked() -> None:
    space = parse_space(
        "optimizer: {sgd: {lr: {low: 0.1, high: 1}}, adamw: {lr: {low: 0.01, high: 0.1}}}\n"
        "schedule: {cosine: {warmup_fraction: {low: 0, high: 0.1}}, constant: }\n"
        "gradient_clip_norm: {choices: [1.0, null]}",
        "mine",
    )
    seen = set()
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        recipe = sample_recipe(space, trial)
        expected = {"optimizer", "schedule", "gradient_clip_norm", f"{recipe.optimizer.name}.lr"}
        expected |= {"cosine.warmup_fraction"} if recipe.schedule.name == "cosine" else set()
        assert set(trial.params) == expected
        seen.add((recipe.optimizer.name, recipe.schedule.name))
    assert len(seen) == 4


def test_one_branch_alone_is_not_asked_for() -> None:
    assert sample_with(parse_space("optimizer: sgd", "mine")) == Recipe(Part("sgd", {"lr": 0.01}))


def test_fixed_values_are_taken_as_they_are() -> None:
    space = parse_space(
        "optimizer: {sgd: {lr: 1, momentum: 0.9}}\nprecision: '16'\ngroups: {no_decay_norm_bias: false}", "mine"
    )

    expected = Recipe(Part("sgd", {"lr": 1, "momentum": 0.9}), groups=Groups(False), precision="16")
    assert repr(sample_with(space)) == repr(expected)


def test_betas_that_a_space_leaves_out_are_the_catalogs() -> None:
    space = parse_space("optimizer: {adamw: {beta2: {choices: [0.95, 0.98]}}}", "mine")

    assert sample_with(space, adamw__beta2=0.98).optimizer["betas"] == (0.9, 0.98)


def test_the_product_of_lr_and_weight_decay_gives_the_weight_decay() -> None:
    space = parse_space(
        "optimizer: {adamw: {lr: {low: 1e-3, high: 1, log: true}, "
        "lr_times_weight_decay: {low: 1e-5, high: 1e-3, log: true}}}",
        "mine",
    )

    recipe = sample_with(space, adamw__lr=0.01, adamw__lr_times_weight_decay=1e-4)

    assert recipe.optimizer == Part("adamw", {"lr": 0.01, "weight_decay": 1e-4 / 0.01})


def test_the_product_goes_with_the_catalogs_lr_where_the_space_has_none() -> None:
    space = parse_space("optimizer: {adamw: {lr_times_weight_decay: 1e-4}}", "mine")

    assert sample_with(space).optimizer == Part("adamw", {"lr": 1e-3, "weight_decay": 1e-4 / 1e-3})


def test_whole_numbers_are_asked_for_as_such() -> None:
    space = parse_space("optimizer: sgd\naccumulate_grad_batches: {low: 1, high: 8, log: true, prior: 4}", "mine")

    assert default_parameters(space, 0) == {"accumulate_grad_batches": 4}
    assert sample_with(space, accumulate_grad_batches=8).accumulate_grad_batches == 8


def test_a_choice_comes_back_from_the_study_with_its_type() -> None:
    space = Space("mine", (Branch("sgd", (("momentum", Fixed(0.9)), ("nesterov", Choice((True, False))))),))
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipes = [sample_recipe(space, study.ask()) for _ in range(5)]

    assert {type(recipe.optimizer["nesterov"]) for recipe in recipes} == {bool}
    assert {type(trial.params["sgd.nesterov"]) for trial in study.trials} == {bool}
