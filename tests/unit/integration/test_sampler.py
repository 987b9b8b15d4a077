import pickle
import subprocess
import sys
from math import log10
from pathlib import Path
from typing import Literal

import optuna
import pytest
from optuna.trial import TrialState

from opttune.algorithms.draws import Parameters
from opttune.algorithms.proposal import SamplerSettings, propose
from opttune.integration.sampler import OpttuneSampler
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.space.model import Space
from opttune.space.parse import load_space
from opttune.space.sample import sample_recipe
from opttune.storages.records import RUNGS
from tests.support.records import make_pause
from tests.support.searches import command_env, make_space

WIDE = load_space("wide")
Direction = Literal["minimize", "maximize"]
SIX = make_space("""
optimizer: {sgd: {lr: {choices: [0.1, 0.2, 0.3], source: test}}}
schedule: {constant: {}, linear: {}}
""")

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def make_study(seed: int | None = 0, space: Space = WIDE, direction: Direction = "minimize") -> optuna.Study:
    return optuna.create_study(sampler=OpttuneSampler(space, seed=seed), direction=direction)


def recipes(count: int, seed: int = 0, study: optuna.Study | None = None) -> list[Recipe]:
    """Ask for recipes one after another; what they are good for stays unknown."""
    study = study or make_study(seed)
    return [sample_recipe(WIDE, study.ask()) for _ in range(count)]


def rate(recipe: Recipe) -> float:
    found = recipe.optimizer["lr"]
    assert isinstance(found, float)
    return found


def off(recipe: Recipe) -> float:
    """A loss that is best far above the usual rates."""
    return abs(log10(rate(recipe) / 0.3))


def learn(count: int, study: optuna.Study, sign: float = 1.0) -> list[Recipe]:
    """Ask and tell, one after another; every fifth trial fails or is pruned."""
    found = []
    for number in range(count):
        trial = study.ask()
        recipe = sample_recipe(WIDE, trial)
        found.append(recipe)
        if number % 5 == 4:
            trial.report(sign * off(recipe), 1)
            study.tell(trial, state=TrialState.PRUNED if number % 2 else TrialState.FAIL)
        else:
            study.tell(trial, sign * off(recipe))
    return found


def assert_valid(study: optuna.Study) -> None:
    for trial in study.trials:
        for name, distribution in trial.distributions.items():
            assert distribution._contains(distribution.to_internal_repr(trial.params[name])), name


def keys(study: optuna.Study) -> set[frozenset[tuple[str, object]]]:
    return {frozenset(trial.params.items()) for trial in study.trials}


def test_the_first_trials_are_the_optimizers_defaults() -> None:
    assert [recipe.optimizer.name for recipe in recipes(5)] == [branch.name for branch in load_space("wide").optimizers]
    assert recipes(1)[0].optimizer["lr"] == 1e-3


def test_the_seed_decides_what_comes_then() -> None:
    assert recipes(12, seed=1) == recipes(12, seed=1)
    assert recipes(12, seed=1)[:5] == recipes(12, seed=2)[:5]
    assert recipes(12, seed=1)[5:] != recipes(12, seed=2)[5:]


@pytest.mark.slow
def test_no_recipe_comes_twice() -> None:
    assert len(set(recipes(200))) == 200
    assert len(set(learn(60, make_study()))) == 60


@pytest.mark.slow
def test_what_trials_show_decides_what_comes_then() -> None:
    assert learn(30, make_study()) == learn(30, make_study())
    assert learn(30, make_study())[0] == recipes(1)[0]
    assert learn(30, make_study()) != recipes(30)


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_it_learns_in_both_directions(direction: Direction, sign: float) -> None:
    found = learn(40, make_study(direction=direction), sign)

    assert sum(map(off, found[20:])) / 20 < sum(map(off, found[:5])) / 5


def test_the_mixture_may_be_set() -> None:
    sampler = OpttuneSampler(WIDE, seed=0, mixture=SamplerSettings(uses_prior=False))

    assert recipes(5, study=optuna.create_study(sampler=sampler)) != recipes(5)


def test_a_study_with_several_objectives_is_searched_without_learning() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=OpttuneSampler(WIDE, seed=0))
    found = []
    for _ in range(12):
        trial = study.ask()
        found.append(sample_recipe(WIDE, trial))
        study.tell(trial, [1.0, 2.0])

    assert found == recipes(12)


def test_a_space_may_be_named() -> None:
    study = optuna.create_study(sampler=OpttuneSampler("adamw", seed=0))

    assert sample_recipe(load_space("adamw"), study.ask()).optimizer["lr"] == 3e-4


def test_a_sampler_without_a_seed_draws_one() -> None:
    first, second = (optuna.create_study(sampler=OpttuneSampler(WIDE)) for _ in range(2))

    assert recipes(10, study=first) != recipes(10, study=second)


@pytest.mark.slow
def test_every_value_lies_in_its_distribution() -> None:
    study = make_study()
    recipes(50, study=study)
    learn(50, study)

    assert_valid(study)


def test_every_value_is_what_was_proposed_and_none_a_random_one() -> None:
    study = make_study()
    recipes(20, study=study)
    proposed: list[Parameters] = []
    for number in range(20):
        proposed.append(propose(WIDE, number, 0, [], proposed, SamplerSettings()))

    assert [trial.params for trial in study.trials] == proposed


@pytest.mark.slow
def test_a_study_taken_up_in_a_new_process_proposes_what_an_undisturbed_one_would(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = optuna.create_study(study_name="s", storage=url, sampler=OpttuneSampler(WIDE, seed=5))
    learn(8, study)
    code = (
        "import optuna; from opttune import OpttuneSampler, load_space\n"
        "from opttune.space.sample import sample_recipe\n"
        f"study = optuna.load_study(study_name='s', storage={url!r}, sampler=OpttuneSampler('wide', seed=5))\n"
        "print([sample_recipe(load_space('wide'), study.ask()).flat() for _ in range(4)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=command_env(), check=True)
    undisturbed = make_study(5)
    learn(8, undisturbed)

    assert done.stdout.strip() == str([recipe.flat() for recipe in recipes(4, study=undisturbed)])


def test_parameters_of_the_users_own_are_drawn_at_random_and_reproducibly() -> None:
    def ask() -> list[tuple[float, int, str, Recipe]]:
        study = make_study()
        trials = [study.ask() for _ in range(20)]
        return [
            (
                trial.suggest_float("dropout", 0, 1),
                trial.suggest_int("width", 8, 64, log=True),
                trial.suggest_categorical("norm", ["batch", "layer"]),
                sample_recipe(WIDE, trial),
            )
            for trial in trials
        ]

    found = ask()

    assert found == ask()
    assert [recipe for *_, recipe in found] == recipes(20)
    assert len({dropout for dropout, *_ in found}) == 20
    assert {norm for _, _, norm, _ in found} == {"batch", "layer"}


def test_a_parameter_of_the_same_name_but_another_range_is_drawn_from_that_range() -> None:
    study = make_study()

    assert 10 <= study.ask().suggest_float("adamw.lr", 10, 20) <= 20


def test_an_enqueued_trial_is_followed() -> None:
    study = make_study()
    study.enqueue_trial({"optimizer": "adamw", "adamw.lr": 5e-3})

    assert recipes(1, study=study)[0].optimizer["lr"] == 5e-3


@pytest.mark.slow
def test_threads_of_one_study_try_nothing_twice() -> None:
    study = make_study()
    study.optimize(lambda trial: off(sample_recipe(WIDE, trial)), n_trials=60, n_jobs=4)

    assert len(study.trials) == 60
    assert len(keys(study)) == 60
    assert_valid(study)


def test_trials_that_are_asked_at_the_same_time_know_of_one_another() -> None:
    study = make_study(space=SIX)
    trials = [study.ask() for _ in range(6)]
    # all of them begin before any has its last parameter
    for trial in trials:
        trial.suggest_categorical("schedule", ["constant", "linear"])
    for trial in trials:
        trial.suggest_categorical("sgd.lr", [0.1, 0.2, 0.3])

    assert len(keys(study)) == 6


def test_threads_at_a_small_space_exhaust_it() -> None:
    study = make_study(space=SIX)
    study.optimize(lambda trial: float(str(sample_recipe(SIX, trial).optimizer["lr"])), n_trials=6, n_jobs=6)

    assert len(keys(study)) == 6


@pytest.mark.parametrize("space", [WIDE, load_space("adamw")], ids=["wide", "adamw"])
def test_trials_that_continue_are_read_again(space: Space) -> None:
    study = make_study(space=space)
    running: list[tuple[optuna.Trial, list[Outcome]]] = []
    for number in range(30):
        trial = study.ask()
        recipe = sample_recipe(space, trial)
        own = study._storage.get_trial(trial._trial_id)
        # one that has seen nothing before, as in a process that takes the study up
        fresh = OpttuneSampler(space, seed=0)
        planned = {name: fresh.sample_independent(study, own, name, kind) for name, kind in own.distributions.items()}
        assert planned == own.params
        running.append((trial, []))
        other, pauses = running[number // 3]
        pauses.append(make_pause(off(recipe) / (1 + len(pauses)), 10 * (1 + len(pauses))))
        other.set_user_attr(RUNGS, [pause.to_dict() for pause in pauses])
        if len(pauses) == 3:
            study.tell(other, pauses[-1].value)


def test_a_sampler_can_be_pickled_with_its_study() -> None:
    study = make_study()
    learn(8, study)
    copy = pickle.loads(pickle.dumps(study))

    assert recipes(3, study=copy) == recipes(3, study=study)
