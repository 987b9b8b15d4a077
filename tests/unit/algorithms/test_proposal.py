import warnings
from collections.abc import Callable
from math import log10, nan
from typing import Any

import numpy as np
import optuna
import pytest

from opttune.algorithms.draws import Parameters, coarse_key, configuration_key
from opttune.algorithms.observations import Observation
from opttune.algorithms.proposal import SamplerSettings, propose
from opttune.errors import InputError
from opttune.space.model import Range, Scalar, Space
from opttune.space.parse import load_space, space_names
from opttune.space.sample import default_parameters, sample_recipe
from tests.support.searches import make_space

WIDE = load_space("wide")
SIX = """
description: six points
optimizer:
  sgd:
    lr: {choices: [0.1, 0.2, 0.3], source: test}
schedule: {constant: {}, linear: {}}
"""
TWO = make_space("""
optimizer:
  sgd: {lr: {low: 1e-5, high: 10.0, log: true, prior: 1e-2, source: test}}
  adamw: {lr: {low: 1e-6, high: 1.0, log: true, prior: 1e-3, source: test}}
schedule: {constant: {}}
""")
ONLY_PRIOR = SamplerSettings(model_share=0, mutation_share=0, line_search=False)
ONLY_MODEL = SamplerSettings(model_share=1, line_search=False)
ONLY_MUTATION = SamplerSettings(model_share=0, mutation_share=1, line_search=False)

Loss = Callable[[Parameters], float | None]


def number(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)


def rate_of(configuration: Parameters) -> float:
    return next(number(value) for name, value in configuration.items() if name.endswith(".lr"))


def search(
    space: Space, count: int, loss: Loss | None = None, seed: int = 0, mixture: SamplerSettings | None = None
) -> list[Parameters]:
    """Propose one after another; a loss of None is a trial that died, no loss a trial that shows nothing yet."""
    configurations: list[Parameters] = []
    observations: list[Observation] = []
    for index in range(count):
        configuration = propose(space, index, seed, observations, configurations, mixture or SamplerSettings())
        configurations.append(configuration)
        if loss is not None:
            value = loss(configuration)
            observations.append(
                Observation(configuration, failed_at=0.1) if value is None else Observation(configuration, (value,))
            )
    return configurations


def cliff(configuration: Parameters) -> float | None:
    """Larger rates are better, up to where trials die."""
    rate = rate_of(configuration)
    return None if rate > 0.05 else -rate


def draws(
    mixture: SamplerSettings, observations: list[Observation], space: Space = TWO, count: int = 200
) -> list[Parameters]:
    """Return draws that know nothing of each other, once the default of each optimizer was tried."""
    tried = [default_parameters(space, index) for index in range(len(space.optimizers))]
    return [propose(space, index, 0, observations, tried, mixture) for index in range(5, 5 + count)]


def at(optimizer: str, rate: float, value: float = 0.0) -> Observation:
    return Observation({"optimizer": optimizer, f"{optimizer}.lr": rate}, (value,))


@pytest.mark.parametrize("loss", [None, cliff], ids=["nothing known", "cliff"])
def test_the_default_of_each_optimizer_comes_first(loss: Loss | None) -> None:
    configurations = search(WIDE, 8, loss, mixture=SamplerSettings(line_search=False))

    assert [configuration["optimizer"] for configuration in configurations[:5]] == [
        branch.name for branch in WIDE.optimizers
    ]
    assert configurations[0] == default_parameters(WIDE, 0)
    assert loss is cliff or configurations[:5] == [default_parameters(WIDE, index) for index in range(5)]
    assert configurations[5] not in configurations[:5]


def test_several_workers_try_several_optimizers_at_once() -> None:
    first = default_parameters(TWO, 0)
    seen = Observation(first, (0.5,))

    assert propose(TWO, 1, 0, [], [first], SamplerSettings()) == default_parameters(TWO, 1)
    stepped = propose(TWO, 1, 0, [seen], [first], SamplerSettings())
    assert stepped["sgd.lr"] == pytest.approx(10 * rate_of(first))
    assert propose(TWO, 2, 0, [seen], [first, stepped], SamplerSettings())["optimizer"] == "adamw"


def test_the_first_optimizer_is_tried_again_where_its_default_diverged_but_not_where_memory_was_too_small() -> None:
    first = default_parameters(TWO, 0)
    diverged, too_large = Observation(first, (), 0.1, 1e-2), Observation(first, (), 0.1)

    again = propose(TWO, 1, 0, [diverged], [first], SamplerSettings())
    assert again["optimizer"] == "sgd"
    assert rate_of(again) < 1e-2
    assert propose(TWO, 1, 0, [too_large], [first], SamplerSettings()) == default_parameters(TWO, 1)


def test_the_second_optimizer_has_its_turn_after_four_trials_of_the_first() -> None:
    names = [
        configuration["optimizer"]
        for configuration in search(TWO, 8, lambda configuration: abs(log10(rate_of(configuration)) + 2))
    ]
    far = [configuration["optimizer"] for configuration in search(TWO, 8, decades_off(3.0))]

    assert names[:5] == ["sgd"] * 4 + ["adamw"]
    assert far[:5] == ["sgd"] * 4 + ["adamw"]


def test_an_optimizer_whose_rate_is_given_has_one_turn() -> None:
    given = make_space("optimizer: {sgd: {lr: 0.1, momentum: {low: 0.1, high: 0.9}}, adamw: {lr: 0.01}}")
    first = default_parameters(given, 0)

    assert propose(given, 1, 0, [Observation(first, (0.5,))], [first], SamplerSettings()) == default_parameters(
        given, 1
    )


def test_a_line_search_follows_each_default() -> None:
    configurations = search(TWO, 8, decades_off(1.2))
    sgd = [
        round(log10(rate_of(configuration)), 1)
        for configuration in configurations
        if configuration["optimizer"] == "sgd"
    ]
    adamw = [log10(rate_of(configuration)) for configuration in configurations if configuration["optimizer"] == "adamw"]

    # up as long as it gets better, once more what the model chooses, then the other's default, moved the same way
    assert [configuration["optimizer"] for configuration in configurations[:5]] == ["sgd", "sgd", "sgd", "sgd", "adamw"]
    assert sgd[:3] == [-2.0, -1.0, 0.0]
    assert -3 < adamw[0] < -1.8
    assert adamw[1] == pytest.approx(adamw[0] + 1, abs=0.01)


def test_a_step_that_is_trained_just_now_is_not_taken_twice() -> None:
    first = propose(TWO, 1, 0, [at("sgd", 1e-2)], [{"optimizer": "sgd", "sgd.lr": 1e-2}], SamplerSettings())
    second = propose(TWO, 2, 0, [at("sgd", 1e-2)], [{"optimizer": "sgd", "sgd.lr": 1e-2}, first], SamplerSettings())

    assert first == {"optimizer": "sgd", "sgd.lr": 0.1}
    assert second == default_parameters(TWO, 1)


@pytest.mark.parametrize("mixture", [SamplerSettings(line_search=False), ONLY_PRIOR, ONLY_MODEL, ONLY_MUTATION])
def test_a_proposal_follows_from_its_arguments_alone(mixture: SamplerSettings) -> None:
    configurations = search(WIDE, 7)
    observations = [Observation(configuration, (float(index),)) for index, configuration in enumerate(configurations)]

    def proposed(index: int = 7, seed: int = 3, observations: list[Observation] = observations) -> Parameters:
        return propose(WIDE, index, seed, observations, configurations, mixture)

    assert proposed() == proposed(observations=list(observations))
    assert proposed() != proposed(seed=4)
    assert proposed() != proposed(index=8)


def test_the_arguments_are_left_as_they_were() -> None:
    configurations = search(WIDE, 7)
    observations = [
        Observation(dict(configuration), (float(index),)) for index, configuration in enumerate(configurations)
    ]
    before = [dict(configuration) for configuration in configurations]
    for index in range(7, 27):
        propose(WIDE, index, 0, observations, configurations, SamplerSettings())

    assert configurations == before
    assert [one.parameters for one in observations] == before


@pytest.mark.parametrize("loss", [None, cliff, lambda configuration: 0.0], ids=["nothing known", "cliff", "all equal"])
def test_no_two_trials_are_nearly_the_same(loss: Loss | None) -> None:
    configurations = search(load_space("adamw"), 40, loss)

    assert len({coarse_key(configuration) for configuration in configurations}) == 40


@pytest.mark.parametrize("loss", [None, rate_of], ids=["nothing known", "small rates are best"])
def test_a_finite_space_is_exhausted_before_anything_repeats(loss: Loss | None) -> None:
    configurations = search(make_space(SIX), 8, loss)

    assert len({configuration_key(configuration) for configuration in configurations[:6]}) == 6
    assert configurations[7] in configurations[:6]


@pytest.mark.parametrize("loss", [None, rate_of], ids=["nothing known", "small rates are best"])
def test_a_whole_number_range_is_exhausted_too(loss: Loss | None) -> None:
    space = make_space(SIX + "accumulate_grad_batches: {low: 1, high: 4, source: test}\n")

    assert len({configuration_key(configuration) for configuration in search(space, 24, loss)}) == 24


def test_the_last_free_point_of_a_large_grid_is_found() -> None:
    grid = make_space(SIX.replace("[0.1, 0.2, 0.3]", str([n / 1000 for n in range(1, 151)])))

    assert len({configuration_key(configuration) for configuration in search(grid, 300)}) == 300


def test_a_range_of_few_rounded_values_has_others_in_between() -> None:
    narrow = SIX.replace("{choices: [0.1, 0.2, 0.3], source: test}", "{low: 1.0, high: 1.001, source: test}")

    assert len({configuration_key(configuration) for configuration in search(make_space(narrow), 150)}) == 150


@pytest.mark.slow
@pytest.mark.parametrize("name", space_names())
def test_every_proposal_is_a_recipe_of_its_space(name: str) -> None:
    space = load_space(name)
    rng = np.random.default_rng(0)

    def noise(configuration: Parameters) -> float | None:
        return None if rng.random() < 0.2 else float(rng.random())

    for configuration in search(space, 25, noise):
        trial = optuna.trial.FixedTrial(configuration)
        with warnings.catch_warnings():
            # which is how Optuna says that a value lies outside its distribution
            warnings.simplefilter("error")
            sample_recipe(space, trial)
        assert trial.params == configuration


def test_a_search_learns() -> None:
    def loss(configuration: Parameters) -> float:
        return abs(log10(rate_of(configuration) / (3.0 if configuration["optimizer"] == "sgd" else 0.3)))

    found = [[loss(configuration) for configuration in search(TWO, 24, loss, seed)] for seed in range(5)]

    # the priors lie 2.5 decades below the best rates
    assert all(min(losses) < 0.3 for losses in found)
    assert np.median([losses[12:] for losses in found]) < np.median([losses[:6] for losses in found]) / 2


@pytest.mark.slow
def test_the_model_chooses_near_what_was_good() -> None:
    space = make_space("optimizer: {sgd: {lr: {low: 1e-5, high: 10.0, log: true, prior: 1e-2, source: test}}}")
    observations = [at("sgd", rate, abs(log10(rate / 0.1))) for rate in (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)]
    chosen, drawn = (draws(mixture, observations, space) for mixture in (ONLY_MODEL, ONLY_PRIOR))
    near, unasked = (
        np.mean([abs(log10(rate_of(configuration) / 0.1)) < 1 for configuration in configurations])
        for configurations in (chosen, drawn)
    )

    assert near > 0.9 > unasked


def test_a_mutation_stays_near_the_best_trial() -> None:
    observations = [at("sgd", 0.1, 0.0), at("adamw", 1e-3, 1.0), at("sgd", 1e-3, 2.0)]
    configurations = draws(ONLY_MUTATION, observations)
    decades = [log10(rate_of(configuration) / 0.1) for configuration in configurations]

    assert {configuration["optimizer"] for configuration in configurations} == {"sgd"}
    assert abs(np.median(decades)) < 0.2
    assert 0.1 < np.std(decades) < 1


def test_a_mutation_changes_other_fields_now_and_then_the_schedule_too() -> None:
    best = default_parameters(WIDE, 0)
    configurations = draws(ONLY_MUTATION, [Observation(best, (0.0,))], WIDE)
    kept = [
        configuration for configuration in configurations if {**configuration, "adamw.lr": 0} == {**best, "adamw.lr": 0}
    ]

    assert 0 < len(kept) < len(configurations)
    assert {str(configuration["schedule"]) for configuration in configurations} == {
        branch.name for branch in WIDE.schedules
    }


def test_a_mutation_of_a_space_of_choices_is_one_of_them() -> None:
    configurations = draws(ONLY_MUTATION, [Observation({"sgd.lr": 0.2, "schedule": "linear"}, (0.0,))], make_space(SIX))

    assert {configuration["sgd.lr"] for configuration in configurations} == {0.1, 0.2, 0.3}
    assert {configuration["schedule"] for configuration in configurations} == {"constant", "linear"}


def test_an_observation_from_outside_the_space_is_no_hindrance() -> None:
    strange = [Observation({"optimizer": "lion", "lion.lr": 0.1, "dropout": 0.5}, (0.1,)), Observation({}, (0.2,))]
    for mixture in (ONLY_MODEL, ONLY_MUTATION, ONLY_PRIOR):
        for configuration in draws(mixture, [*strange, at("sgd", 0.1)], count=20):
            assert (
                sample_recipe(TWO, optuna.trial.FixedTrial(configuration)).optimizer.name == configuration["optimizer"]
            )


def test_where_all_trials_died_draws_come_from_the_prior() -> None:
    dead = [Observation(default_parameters(TWO, 0), failed_at=0.1)] * 5

    assert draws(SamplerSettings(), dead, count=20) == draws(SamplerSettings(), dead[:1], count=20)


def decades_off(off: float) -> Loss:
    """The best rates of both optimizers lie as far from their priors."""
    return lambda configuration: abs(
        log10(rate_of(configuration) / (1e-2 if configuration["optimizer"] == "sgd" else 1e-3)) - off
    )


@pytest.mark.parametrize("off", [-1.5, 1.5])
def test_a_wrong_prior_is_left_after_a_few_trials(off: float) -> None:
    loss = decades_off(off)
    found = [[loss(configuration) or 0.0 for configuration in search(TWO, 12, loss, seed)] for seed in range(5)]

    assert all(losses[0] == pytest.approx(1.5) for losses in found)
    assert all(min(losses[:6]) < 0.75 for losses in found)
    assert np.median([losses[6:] for losses in found]) < 0.75


def test_a_right_prior_is_kept() -> None:
    loss = decades_off(0.0)
    found = [[loss(configuration) or 0.0 for configuration in search(TWO, 12, loss, seed)] for seed in range(5)]

    assert np.median([losses[2:] for losses in found]) < 0.75


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_default_of_an_optimizer_moves_where_others_say_that_the_priors_are_off(factor: float) -> None:
    observations = [at("sgd", 1e-2 * factor**share, -share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    rate = rate_of(propose(TWO, 1, 0, observations, [], SamplerSettings(line_search=False)))

    assert log10(rate / 1e-3) * np.sign(factor - 1) > 0.4
    # recipes are read by people
    assert rate == float(f"{rate:.3g}")


def test_the_default_stays_where_all_that_was_tried_are_defaults() -> None:
    for value in (0.0, 9.0):
        mixture = SamplerSettings(line_search=False)
        assert propose(TWO, 1, 0, [at("sgd", 1e-2, value)], [], mixture) == default_parameters(TWO, 1)


def test_trials_that_run_at_the_same_time_are_apart() -> None:
    configurations = search(TWO, 8, decades_off(1.0))
    observations = [
        Observation(configuration, (decades_off(1.0)(configuration) or 0.0,)) for configuration in configurations
    ]
    running: list[Parameters] = []
    for index in range(8, 12):
        running.append(propose(TWO, index, 0, observations, [*configurations, *running], SamplerSettings()))
    blind = [propose(TWO, index, 0, observations, configurations, SamplerSettings()) for index in range(8, 12)]

    assert spread(running) > 2 * spread(blind)


def spread(configurations: list[Parameters]) -> float:
    """Return the least distance of two learning rates in decades; other optimizers are nine decades further away."""
    places = [
        log10(rate_of(configuration)) + 9 * (configuration["optimizer"] == "sgd") for configuration in configurations
    ]
    return min(abs(one - other) for index, one in enumerate(places) for other in places[:index])


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_priors_move_with_what_the_trials_say_for_every_optimizer(factor: float) -> None:
    observations = [at("sgd", 1e-2 * factor**share, -share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    before = [configuration for configuration in draws(ONLY_PRIOR, []) if configuration["optimizer"] == "adamw"]
    after = [
        configuration for configuration in draws(ONLY_PRIOR, observations) if configuration["optimizer"] == "adamw"
    ]
    moved = [
        np.median([log10(rate_of(configuration) / 1e-3) for configuration in configurations])
        for configurations in (before, after)
    ]

    assert abs(moved[0]) < 0.5
    assert (moved[1] - moved[0]) * np.sign(factor - 1) > 0.4


def test_without_priors_the_whole_range_is_drawn_from_the_first_trial_on() -> None:
    mixture = SamplerSettings(model_share=0, mutation_share=0, uses_prior=False)
    configurations = [propose(TWO, index, 0, [], [], mixture) for index in range(1000)]
    field = TWO.optimizers[0].get("lr")
    assert isinstance(field, Range)
    places = [
        field.place(rate_of(configuration)) for configuration in configurations if configuration["optimizer"] == "sgd"
    ]

    assert default_parameters(TWO, 0) not in configurations
    assert np.histogram(places, bins=5, range=(0, 1))[0].min() > 0.14 * len(places)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_without_priors_it_makes_no_difference_where_they_lie(share: float) -> None:
    text = "optimizer: {{sgd: {{lr: {{low: 1e-4, high: 1.0, log: true, prior: {prior}, source: test}}}}}}"
    mixture = SamplerSettings(model_share=share, uses_prior=False)
    low, high = (search(make_space(text.format(prior=prior)), 12, rate_of, 0, mixture) for prior in (1e-3, 0.5))

    assert low == high


@pytest.mark.parametrize("settings", [{"model_share": 1.1}, {"mutation_share": -0.1}, {"model_share": nan}])
def test_a_share_outside_0_to_1_is_refused(settings: dict[str, Any]) -> None:
    name = next(iter(settings))
    with pytest.raises(InputError, match=f"SamplerSettings: {name} must be from 0 to 1, got"):
        SamplerSettings(**settings)


REACHING = make_space("""
optimizer:
  sgd:
    lr: {low: 1e-4, high: 1e-3, log: true, prior: 3e-4, reach: [1e-6, 1.0], source: test}
    momentum: {low: 0.5, high: 0.99, log_of_one_minus: true, source: test}
schedule: {constant: {}, linear: {}}
""")
WALLED = make_space("""
optimizer:
  sgd:
    lr: {low: 1e-4, high: 1e-3, log: true, prior: 3e-4, source: test}
    momentum: {low: 0.5, high: 0.99, log_of_one_minus: true, source: test}
schedule: {constant: {}, linear: {}}
""")


def bowl(best: float) -> Loss:
    return lambda configuration: log10(rate_of(configuration) / best) ** 2


@pytest.mark.parametrize("best", [0.1, 5e-6], ids=["above", "below"])
@pytest.mark.parametrize("settings", [SamplerSettings(), SamplerSettings(races=True)], ids=["short", "race"])
def test_once_the_line_search_has_left_a_range_the_model_refines_there(best: float, settings: SamplerSettings) -> None:
    rates = [rate_of(one) for one in search(REACHING, 12, bowl(best), mixture=settings)]
    assert all(1e-6 <= rate <= 1.0 for rate in rates)
    line = [rate for rate in rates[:5] if not 1e-4 <= rate <= 1e-3]
    assert line
    assert sum(best / 10 < rate < best * 10 for rate in rates[5:]) >= 4
    assert min(abs(log10(rate / best)) for rate in rates) < 0.25


@pytest.mark.parametrize("mixture", [ONLY_MUTATION, ONLY_PRIOR], ids=["mutation", "draws"])
def test_mutations_and_draws_without_a_model_go_there_too(mixture: SamplerSettings) -> None:
    seen = [Observation({"schedule": "linear", "sgd.lr": rate, "sgd.one_minus_momentum": 0.1}, (value,))
            for rate, value in ((3e-4, 0.5), (3e-3, 0.4), (3e-2, 0.3), (0.3, 0.6))]  # fmt: skip
    rates = [rate_of(one) for one in draws(mixture, seen, REACHING)]
    assert 3e-3 < max(rates) <= 0.3
    assert any(3e-2 < rate < 0.3 for rate in rates)


def test_nothing_changes_where_no_value_beyond_a_range_is_the_best() -> None:
    # the rate of 3e-3 is a step of the line search that made it worse
    seen = [Observation({"schedule": "linear", "sgd.lr": rate, "sgd.one_minus_momentum": 0.1}, (value,))
            for rate, value in ((3e-4, 0.3), (3e-3, 0.5), (1e-4, 0.4), (9e-4, 0.35))]  # fmt: skip
    for mixture in (ONLY_MODEL, ONLY_MUTATION, ONLY_PRIOR):
        assert draws(mixture, seen, REACHING, count=20) == draws(mixture, seen, WALLED, count=20)


def test_a_range_without_reach_is_a_wall() -> None:
    assert all(1e-4 <= rate_of(one) <= 1e-3 for one in search(WALLED, 15, bowl(0.1)))
