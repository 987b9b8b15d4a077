"""The module's own optimizer in a space, and spaces for several optimizers."""

import re
from pathlib import Path

import optuna
import pytest

from opttune.errors import ModelError, OpttuneError
from opttune.recipe import Part, Recipe
from opttune.space.auto import ModelFacts
from opttune.space.model import Range
from opttune.space.own import EACH_FROM_BUDGET, OwnFacts, fit_own, own_branch, with_own_values
from opttune.space.parse import load_space, parse_space
from opttune.space.recipe_file import load_recipe, save_recipe
from opttune.space.sample import default_parameters, default_recipe, sample_recipe
from opttune.space.settle import settle
from opttune.yaml_text import write_yaml

ONE = OwnFacts("AdamW(lr=0.0004)", knobs=("lr_factor", "beta1_horizon_factor"), row="adamw", values={"lr": 4e-4})
PAIR = OwnFacts("g: Adam(lr=0.1), d: Adam(lr=0.1)", ("g", "d"), ("lr_factor", "beta1_horizon_factor"))
THREE = OwnFacts("three", ("0", "1", "2"), ("lr_factor",))

SEVERAL = """\
optimizers:
  - own: {lr_factor: {low: 0.1, high: 10, log: true, prior: 1.0}, beta1_horizon_factor: {choices: [1.0, 2.0]}}
  - adamw: {lr: {low: 1e-4, high: 1e-2, log: true}, beta2: 0.99}
schedules:
  - own
  - cosine: {warmup_fraction: {low: 0.0, high: 0.1}}
"""
SHARED = """\
lr_factor: {low: 0.1, high: 10, log: true, prior: 1.0}
optimizers:
  - own: {}
  - own: {lr_factor: {low: 0.1, high: 10, log: true, prior: 1.0}}
"""


def sample(text: str, **parameters: object) -> Recipe:
    return sample_recipe(parse_space(text, "mine"), optuna.trial.FixedTrial(parameters))


@pytest.mark.parametrize("facts", [ONE, PAIR, THREE])
@pytest.mark.parametrize("budget", [1, EACH_FROM_BUDGET - 0.5, EACH_FROM_BUDGET, 100])
def test_it_starts_from_the_module_baseline_trial(facts: OwnFacts, budget: float) -> None:
    branch = own_branch(facts, budget)
    assert branch.is_own
    space = parse_space("optimizer: own", "s").map_optimizers(lambda _: branch)
    assert default_recipe(space).is_baseline
    default_recipe(space).for_each(facts.count)


def test_a_small_budget_moves_several_together_and_a_larger_one_each() -> None:
    assert [name for name, _ in own_branch(THREE, 9).fields] == ["lr_factor"]
    assert [name for name, _ in own_branch(THREE, 10).fields] == ["lr_factor", "1.lr_factor", "2.lr_factor"]


def test_one_has_the_knobs_that_its_class_has() -> None:
    assert [name for name, _ in own_branch(ONE, 5).fields] == ["lr_factor", "beta1_horizon_factor"]


def test_what_the_modules_optimizer_lacks_is_left_out_and_said() -> None:
    space, notes = fit_own(load_space("own"), ONE)
    assert [name for name, _ in space.optimizers[0].fields] == ["lr_factor", "beta1_horizon_factor"]
    assert notes == ("AdamW(lr=0.0004) has no weight_decay, beta2, momentum to move: left out.",)
    assert fit_own(space, ONE) == (space, ())


def test_a_space_without_own_needs_no_optimizer_of_the_modules() -> None:
    space = load_space("adamw")
    assert fit_own(space, None) == (space, ())
    assert fit_own(space, PAIR) == (space, ())


def test_a_space_that_moves_an_optimizer_where_there_is_none_is_refused() -> None:
    for text in ("optimizer: own", SEVERAL):
        with pytest.raises(ModelError, match="the space mine moves the module's own optimizer, and configure_optimi"):
            fit_own(parse_space(text, "mine"), None)


@pytest.mark.parametrize("facts", [ONE, THREE])
def test_a_space_for_another_number_of_optimizers_is_refused(facts: OwnFacts) -> None:
    with pytest.raises(ModelError, match=f"the space mine is for 2 optimizers, and the model has {facts.count}"):
        fit_own(parse_space(SEVERAL, "mine"), facts)


def test_the_same_optimizer_begins_where_the_module_has_it() -> None:
    space, notes = with_own_values(load_space("adamw"), ONE)
    lr = space.optimizers[0].get("lr")
    assert isinstance(lr, Range)
    assert lr.prior == 4e-4
    assert notes == ("adamw starts at the module's own values: lr 0.0004.",)
    assert with_own_values(load_space("sgd"), ONE) == (load_space("sgd"), ())
    assert with_own_values(load_space("adamw"), None) == (load_space("adamw"), ())


def test_a_value_outside_of_the_range_is_left_out() -> None:
    far = OwnFacts("AdamW(lr=5)", row="adamw", values={"lr": 5.0, "beta1": float("nan")})
    assert with_own_values(load_space("adamw"), far) == (load_space("adamw"), ())


def test_the_shipped_space_is_fitted_to_a_module_with_several() -> None:
    def fitted(budget: float) -> list[str]:
        facts = ModelFacts(100, own=PAIR)
        found = settle(load_space("own"), "own", trainer={}, facts=facts, total_steps=100, budget=budget)
        return [name for name, _ in found.space.parameters()]

    assert fitted(5)[0] == "own.lr_factor"
    assert fitted(20)[:2] == ["own+own.lr_factor", "own+own.1.lr_factor"]


def test_a_recipe_of_several_is_asked_for_by_number() -> None:
    recipe = sample(
        SEVERAL,
        **{
            "own+adamw.0.lr_factor": 2.0,
            "own+adamw.0.beta1_horizon_factor": 1.0,
            "own+adamw.1.lr": 1e-3,
            "own+cosine.1.warmup_fraction": 0.05,
        },
    )
    assert recipe.to_dict()["optimizers"] == [
        {"name": "own", "lr_factor": 2.0},
        {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.99]},
    ]
    assert recipe.to_dict()["schedules"] == [{"name": "own"}, {"name": "cosine", "warmup_fraction": 0.05}]


def test_a_factor_that_all_share_multiplies_each() -> None:
    recipe = sample(SHARED, **{"own+own.lr_factor": 2.0, "own+own.1.lr_factor": 3.0})
    assert [part["lr_factor"] for part in recipe.optimizer.split()] == [2.0, 6.0]
    assert recipe.schedule == Part("own")
    text = "lr_factor: {choices: [0.5, 2.0]}\noptimizers: [{adamw: {lr: 0.01}}, {sgd: {lr: 1.0}}]\nschedule: constant"
    recipe = sample(text, **{"adamw+sgd.lr_factor": 0.5})
    assert [part["lr"] for part in recipe.optimizer.split()] == [0.005, 0.5]


@pytest.mark.parametrize("text", [SEVERAL, SHARED, "optimizer: own", "optimizers: [own, own, adamw]\nschedule: linear"])
def test_a_space_of_several_comes_back_from_yaml(text: str) -> None:
    space = parse_space(text, "mine")
    assert parse_space(write_yaml(space.to_dict()), "mine") == space


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "own"},
        {"optimizer": {"name": "own", "lr_factor": 2.5, "momentum_horizon_factor": 0.5}, "schedule": "linear"},
        {"optimizers": [{"name": "own", "lr_factor": 2.0}, {"name": "adamw", "lr": 1e-3, "betas": [0.5, 0.9]}]},
        {"optimizers": ["sgd", "adamw", "own"], "schedules": ["constant", {"name": "cosine"}, "own"]},
    ],
)
def test_a_recipe_comes_back_from_its_file(tmp_path: Path, recipe: dict[str, object]) -> None:
    made = Recipe.from_dict(recipe)
    save_recipe(made, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == made
    assert Recipe.from_dict(made.to_dict()) == made


MISTAKES = [
    ("optimizer: own\noptimizers: [own, own]", "s.yaml:2: optimizer and optimizers exclude each other; keep one"),
    ("optimizers: own", "s.yaml:1: optimizers must be a list with an entry for each optimizer, got 'own'."),
    ("optimizers: [own]", "s.yaml:1: optimizers must be a list with an entry for each optimizer, got ['own']."),
    ("optimizers: []", "s.yaml:1: optimizers must be a list with an entry for each optimizer, got []."),
    ("optimizers:\n  - own\n  - {adamw: {}, sgd: {}}", "entry 1 must be one optimizer, got ['adamw', 'sgd']."),
    ("optimizers:\n  - own\n  - adamww", "s.yaml:3: unknown optimizer 'adamww'. Did you mean 'adamw'?"),
    ("optimizers:\n  - own\n  - adamw:\n      lr_factor: 2", "s.yaml:4: unknown key 'lr_factor' in optimizer adamw."),
    ("optimizers:\n  - own: {lr: 0.1}\n  - own", "s.yaml:2: unknown key 'lr' in optimizer own."),
    ("optimizers:\n  - own: {lr_factor: 0}\n  - own", "s.yaml:2: optimizers.0.own.lr_factor must be > 0, got 0."),
    ("optimizers: [own, 3]", "s.yaml:1: optimizers.1 must be a name or a mapping of names to fields, got 3."),
    ("optimizer: own\nlr_factor: 2", "s.yaml:2: lr_factor belongs to `optimizers:`, a list for several of them."),
    ("optimizers: [own, own]\nlr_factor: 0", "s.yaml:2: lr_factor must be > 0, got 0."),
    ("optimizers: [own, own]\nlr_factor: {low: -1, high: 1}", "s.yaml:2: lr_factor must be > 0, got -1."),
    ("optimizers: [own, own]\nlr_factor: [1, 2]", "s.yaml:2: lr_factor: a bare list is ambiguous."),
    ("optimizers: [own, own]\nschedules: [own]", "s.yaml:2: schedules must be a list with an entry for each"),
    ("optimizers: [own, own]\nschedules: [own, own, own]", "s.yaml:2: there must be 2 schedules, one an optimizer, "),
    ("optimizers: [own, own]\nschedule: own\nschedules: [own, own]", "s.yaml:3: schedule and schedules exclude"),
    ("optimizer: own\nschedules: [own, own]", "s.yaml:2: there must be 1 schedule"),
    ("optimizers: [own, adamw]\nschedule: own", "s.yaml:2: schedule own is that of the module's own optimizer"),
    ("optimizers: [own, adamw]\nschedules: [own, own]", "s.yaml:2: schedule own is that of the module's own opt"),
    ("optimizer: adamw\nschedule: own", "s.yaml:2: schedule own is that of the module's own optimizer, got optimiz"),
    ("optimizer: {own: {}, adamw: {}}\nschedule: own", "s.yaml:2: schedule own is that of the module's own optimi"),
    ("schedules: [own, own]", "s.yaml:1: there is no `optimizer:`."),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(OpttuneError, match=re.escape(message)) as info:
        parse_space(text, "mine", where="s.yaml")
    assert str(info.value).startswith("s.yaml:")


def test_the_defaults_of_a_space_of_several_are_asked_by_the_same_names() -> None:
    space = parse_space(SEVERAL, "mine")
    assert set(default_parameters(space, 0)) == {
        space_name.optuna_name(name) for name, space_name in space.parameters()
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("optimizers:\n- name: own\n- {name: adamw, lr: -1}\n", 3),
        ("optimizers:\n- own\n- {name: adamww}\n", 3),
        ("optimizers:\n- own\n- name: adamw\n  lr: 1\n  betaz: 1\n", 5),
        ("optimizers:\n- own\n- adamw\nschedules:\n- own\n- {name: cosine, warm: 1}\n", 6),
        ("optimizers:\n- own\n- adamw\ngradient_clip_norm: -1\nschedule: constant\n", 4),
        ("optimizer: own\n\nschedule: cosin\n", 3),
    ],
)
def test_a_mistake_in_a_recipe_file_of_several_is_named_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(OpttuneError, match=rf"r\.yaml:{line}: "):
        load_recipe(tmp_path / "r.yaml")


def test_a_factor_without_a_prior_begins_where_it_changes_nothing() -> None:
    text = "optimizer: {own: {lr_factor: {low: 0.05, high: 10, log: true}, weight_decay_factor: {low: 2, high: 8}}}"
    facts = OwnFacts("AdamW(lr=0.001)", knobs=("lr_factor", "weight_decay_factor"))
    branch = fit_own(parse_space(text, "mine"), facts)[0].optimizers[0]

    assert (branch.get("lr_factor").prior, branch.get("weight_decay_factor").prior) == (1.0, None)  # type: ignore[union-attr]


def test_where_the_modules_code_sets_the_rate_no_other_schedule_is_searched() -> None:
    space, notes = fit_own(load_space("own"), OwnFacts("Adam(lr=0.001)", sets_rates=True))

    assert [branch.name for branch in space.schedules] == ["own"]
    assert "sets the learning rate in each step: schedules cosine, linear are left out." in notes[-1]
