from collections.abc import Callable
from math import log10

import numpy as np
import pytest

from opttune.algorithms.draws import Parameters, draw_from_prior
from opttune.algorithms.gaussian_process import GaussianProcess
from opttune.algorithms.observations import Observation, scores
from opttune.space.model import Scalar, Space
from opttune.space.parse import load_space, space_names
from tests.support.searches import make_space

ONE = make_space("""
optimizer: {sgd: {lr: {low: 1e-4, high: 1.0, log: true, prior: 1e-2, source: test}}}
schedule: {constant: {}}
""")
TWO = make_space("""
optimizer:
  sgd: {lr: {low: 1e-4, high: 1.0, log: true, prior: 1e-2, source: test}}
  adamw: {lr: {low: 1e-6, high: 1e-1, log: true, prior: 1e-3, source: test}}
schedule: {constant: {}}
""")
FIELDS = make_space("""
optimizer:
  adamw:
    lr: {low: 1e-5, high: 1e-1, log: true, prior: 1e-3, source: test}
    weight_decay: {choices: [0.0, 0.1, 0.2], source: test}
    beta2: {low: 0.5, high: 0.999, log_of_one_minus: true, prior: 0.9, source: test}
schedule:
  constant: {}
  linear: {warmup_fraction: {low: 0.0, high: 0.1, source: test}}
gradient_clip_norm: {choices: [null, 1.0], source: test}
accumulate_grad_batches: {low: 1, high: 8, source: test}
""")


def seen(configurations: list[Parameters], loss: Callable[[Parameters], float]) -> list[Observation]:
    return [Observation(configuration, (loss(configuration),)) for configuration in configurations]


def sgd(*rates: float) -> list[Parameters]:
    return [{"sgd.lr": rate} for rate in rates]


def decades_from(best: float, name: str = "sgd.lr") -> Callable[[Parameters], float]:
    return lambda configuration: abs(log10(float(configuration[name] or 1) / best))


def chosen(space: Space, observations: list[Observation], candidates: list[Parameters]) -> Parameters:
    return candidates[int(GaussianProcess(space, observations).expected_improvement(candidates).argmax())]


@pytest.mark.parametrize("best", [3e-4, 1e-2, 0.3])
def test_after_data_with_a_clear_optimum_candidates_there_are_preferred(best: float) -> None:
    observations = seen(sgd(*np.geomspace(1e-4, 1, 9)), decades_from(best))
    rate = chosen(ONE, observations, sgd(*np.geomspace(1.1e-4, 0.9, 40)))["sgd.lr"]

    assert abs(log10(float(rate or 1) / best)) < 0.5


def test_the_improvement_is_least_far_from_all_that_was_good() -> None:
    observations = seen(sgd(*np.geomspace(1e-4, 1, 9)), decades_from(1e-2))
    near, far = GaussianProcess(ONE, observations).expected_improvement(sgd(0.012, 0.8))

    assert near > far > -1e-9


def test_what_was_not_tried_promises_more_than_what_was_bad() -> None:
    observations = seen(
        sgd(0.01, 0.02, 0.5, 0.6), lambda configuration: 0.0 if configuration["sgd.lr"] == 0.01 else 1.0
    )
    unknown, bad = GaussianProcess(ONE, observations).expected_improvement(sgd(3e-3, 0.55))

    assert unknown > bad


def test_a_single_trial_is_enough() -> None:
    assert np.isfinite(GaussianProcess(ONE, seen(sgd(0.01), lambda _: 1.0)).expected_improvement(sgd(0.01, 0.1))).all()


def test_where_all_that_was_tried_died_its_surroundings_promise_less() -> None:
    observations = [Observation(configuration, failed_at=0.1) for configuration in sgd(0.2, 0.4, 0.8)] + seen(
        sgd(1e-3), lambda _: 1.0
    )
    near_death, near_life = GaussianProcess(ONE, observations).expected_improvement(sgd(0.3, 2e-3))

    assert near_life > near_death


@pytest.mark.parametrize("factor", [0.03, 30.0])
def test_a_prior_that_is_off_for_one_optimizer_is_taken_to_be_off_for_another(factor: float) -> None:
    rates = np.geomspace(1e-4, 1, 9)
    # for sgd the best rate lies a factor from its prior; adamw has shown nothing
    shown: list[Parameters] = [{"optimizer": "sgd", "sgd.lr": float(rate)} for rate in rates]
    observations = seen(shown, decades_from(1e-2 * factor))
    candidates: list[Parameters] = [{"optimizer": "adamw", "adamw.lr": 1e-3 * move} for move in (0.03, 1.0, 30.0)]

    assert float(chosen(TWO, observations, candidates)["adamw.lr"] or 0) == pytest.approx(1e-3 * factor)


@pytest.mark.parametrize("off", [-1.5, 0.0, 1.5])
def test_it_says_in_which_direction_the_priors_are_off(off: float) -> None:
    configurations: list[Parameters] = [
        {"optimizer": "sgd", "sgd.lr": 1e-2 * 10**move} for move in (-2.0, -1.0, 0.0, 1.0, 2.0)
    ]
    configurations += [{"optimizer": "adamw", "adamw.lr": 1e-3 * 10**move} for move in (-1.5, -0.5, 0.5, 1.5)]

    def loss(configuration: Parameters) -> float:
        name, centre = ("sgd.lr", 1e-2) if configuration["optimizer"] == "sgd" else ("adamw.lr", 1e-3)
        return abs(log10(float(configuration[name] or 1) / centre) - off)

    # what the priors promise keeps it from going all the way
    assert GaussianProcess(TWO, seen(configurations, loss)).shift == pytest.approx(off * 0.75, abs=0.4)


def test_trials_at_the_centres_say_nothing_about_the_shift() -> None:
    configurations: list[Parameters] = [{"optimizer": "sgd", "sgd.lr": 1e-2}, {"optimizer": "adamw", "adamw.lr": 1e-3}]

    observations = seen(configurations, lambda configuration: float(configuration["optimizer"] == "sgd"))

    assert GaussianProcess(TWO, observations).shift == 0


def test_near_a_trial_that_runs_there_is_less_to_gain() -> None:
    observations = seen(sgd(1e-3, 1e-2, 0.1), decades_from(1e-2))
    candidates = sgd(3e-3, 0.6)
    alone, beside = (
        GaussianProcess(ONE, observations, running).expected_improvement(candidates) for running in ([], sgd(0.5))
    )

    assert beside[1] < alone[1] / 2
    assert beside[0] == pytest.approx(alone[0], rel=0.1)


def test_an_optimizer_that_is_better_at_every_rate_is_preferred() -> None:
    rates = np.geomspace(1e-2, 1e-1, 4)
    configurations: list[Parameters] = [{"optimizer": "sgd", "sgd.lr": float(rate)} for rate in rates]
    configurations += [{"optimizer": "adamw", "adamw.lr": float(rate / 100)} for rate in rates]
    observations = seen(configurations, lambda configuration: 0.0 if configuration["optimizer"] == "adamw" else 1.0)
    candidates: list[Parameters] = [{"optimizer": "sgd", "sgd.lr": 0.05}, {"optimizer": "adamw", "adamw.lr": 5e-4}]

    assert chosen(TWO, observations, candidates)["optimizer"] == "adamw"


def full(**fields: Scalar) -> Parameters:
    configuration: Parameters = {
        "schedule": "linear",
        "adamw.lr": 1e-3,
        "adamw.weight_decay": 0.1,
        "adamw.one_minus_beta2": 0.1,
        "linear.warmup_fraction": 0.05,
        "gradient_clip_norm": None,
        "accumulate_grad_batches": 4,
    }
    return configuration | {name.replace("__", "."): value for name, value in fields.items()}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("adamw.weight_decay", 0.2, 0.0),
        ("adamw.one_minus_beta2", 0.001, 0.4),
        ("adamw.one_minus_beta2", 0.4, 0.001),
        ("linear.warmup_fraction", 0.1, 0.0),
        ("gradient_clip_norm", 1.0, None),
        ("accumulate_grad_batches", 1, 8),
        ("schedule", "constant", "linear"),
    ],
)
def test_each_field_is_learnt(name: str, good: Scalar, bad: Scalar) -> None:
    rates = [2e-4, 5e-4, 2e-3, 5e-3]
    configurations = [full() | {"adamw.lr": rate, name: value} for rate in rates for value in (good, bad)]
    observations = seen(configurations, lambda configuration: 0.0 if configuration[name] == good else 1.0)
    candidates = [full() | {name: bad}, full() | {name: good}]

    assert chosen(FIELDS, observations, candidates)[name] == good


def test_fields_that_a_trial_lacks_do_no_harm() -> None:
    constant = {name: value for name, value in full(schedule="constant").items() if not name.startswith("linear.")}
    bare: Parameters = {"adamw.lr": 1e-3}
    strange: Parameters = {"optimizer": "lion", "lion.lr": 1e-4, "dropout": 0.5}
    observations = seen([full(), constant, bare, strange], lambda configuration: float(len(configuration)))

    assert np.isfinite(
        GaussianProcess(FIELDS, observations).expected_improvement([full(), constant, bare, strange, {}])
    ).all()


def test_of_many_trials_150_have_a_say_the_best_and_the_latest() -> None:
    rng = np.random.default_rng(0)
    observations = seen(sgd(*10 ** rng.uniform(-4, 0, 400)), decades_from(0.02))
    best = sorted(range(400), key=lambda index: observations[index].values)[:75]
    silent = [index for index in range(400 - 75) if index not in best]
    candidates = sgd(*np.geomspace(1e-4, 1, 41))
    improvement = GaussianProcess(ONE, observations).expected_improvement(candidates)

    # they tried something else with the same result, and nothing changes
    for index in silent:
        observations[index] = Observation({"sgd.lr": 0.02}, observations[index].values)
    assert len(silent) >= 400 - 150
    assert (GaussianProcess(ONE, observations).expected_improvement(candidates) == improvement).all()
    assert abs(log10(float(candidates[int(improvement.argmax())]["sgd.lr"] or 1) / 0.02)) < 0.5


def test_of_150_trials_each_has_a_say() -> None:
    rng = np.random.default_rng(0)
    observations = seen(sgd(*10 ** rng.uniform(-4, 0, 150)), decades_from(0.02))
    improvement = GaussianProcess(ONE, observations).expected_improvement(sgd(0.02))
    worst = max(range(75), key=lambda index: observations[index].values)
    observations[worst] = Observation({"sgd.lr": 0.02}, observations[worst].values)

    assert GaussianProcess(ONE, observations).expected_improvement(sgd(0.02)) != improvement


def test_the_best_of_many_trials_are_kept_however_old() -> None:
    # the only good ones are the first; what follows is bad
    rates = [0.9e-3, 1e-3, 1.1e-3, *np.geomspace(0.05, 1, 400)]
    observations = seen(sgd(*rates), decades_from(1e-3))

    assert chosen(ONE, observations, sgd(1.05e-3, 0.06, 0.9)) == {"sgd.lr": 1.05e-3}


@pytest.mark.parametrize("name", space_names())
def test_every_shipped_space_has_a_model(name: str) -> None:
    space, rng = load_space(name), np.random.default_rng(0)
    configurations = [draw_from_prior(space, rng, 0.5) for _ in range(30)]
    observations = [Observation(configuration, (float(rng.random()),)) for configuration in configurations]
    improvement = GaussianProcess(space, observations).expected_improvement(
        [draw_from_prior(space, rng, 0.5) for _ in range(20)]
    )

    assert len(scores(observations)) == 30
    assert np.isfinite(improvement).all()
    assert (improvement >= -1e-9).all()


def test_looks_at_two_lengths_tell_how_far_the_best_rate_falls_until_the_end() -> None:
    # the best rate is 0.3 at the first rung, and half a decade less at each one above
    rates = sgd(*np.geomspace(1e-3, 1, 7))
    short = [
        Observation(one, tuple(decades_from(0.3 / 10 ** (0.3 * level))(one) - level for level in range(1 + number % 3)))
        for number, one in enumerate(rates)
    ]
    candidates = sgd(*np.geomspace(1e-3, 1, 31))
    apart = GaussianProcess(ONE, short, by_rung=True).expected_improvement(candidates).argmax()
    together = GaussianProcess(ONE, [Observation(one.parameters, one.values[:1]) for one in short])

    assert candidates[apart]["sgd.lr"] < candidates[together.expected_improvement(candidates).argmax()]["sgd.lr"]


def test_where_all_were_seen_at_one_rung_the_rungs_change_nothing() -> None:
    observations = seen(sgd(*np.geomspace(1e-4, 1, 5)), decades_from(1e-2))
    candidates = sgd(*np.geomspace(2e-4, 0.9, 9))
    apart, together = (GaussianProcess(ONE, observations, by_rung=one) for one in (True, False))

    assert apart.expected_improvement(candidates) == pytest.approx(together.expected_improvement(candidates))
