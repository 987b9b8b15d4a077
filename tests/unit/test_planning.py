from pathlib import Path
from typing import Any

import lightning
import pytest

from opttune.errors import InputError, OpttuneError
from opttune.guard.rules import Guard
from opttune.planning import make_plan
from opttune.space.model import Choice, Fixed
from opttune.space.parse import load_space
from opttune.study.config import SearchConfig
from tests.support.search_models import Classifier, loaders
from tests.support.searches import MODULES, TINY, make_space, write_space

USUAL: dict[str, Any] = {
    "space": "adamw", "monitor": "val_loss", "mode": "min", "max_steps": 10, "max_epochs": None, "budget": 20.0,
    "trials": None, "timeout": None, "workers": 1, "engine": None, "study": None, "out_dir": None, "seed": 0,
    "guard": None, "baseline": True, "trainer": None,
}  # fmt: skip


def plan_with(**settings: Any) -> SearchConfig:
    return make_plan(Classifier, loaders, **{**USUAL, **settings})[0]


def test_the_usual_arguments_make_a_plan_and_a_workload() -> None:
    config, workload = make_plan(Classifier, loaders, **USUAL)

    assert config.study_name == "Classifier-adamw"
    assert config.out_dir == Path("opttune_runs/Classifier-adamw")
    assert config.length == {"max_steps": 10}
    assert config.guard == Guard()
    assert (workload.model, workload.data) == (Classifier, loaders)


def test_a_space_may_be_a_name_a_file_or_a_value(tmp_path: Path) -> None:
    path = write_space(tmp_path, TINY, "mine")

    assert plan_with(space="sgd").space == load_space("sgd")
    assert plan_with(space=path).space.name == "mine"
    assert plan_with(space=str(path)).space.name == "mine"
    assert plan_with(space=make_space(TINY)).space.name == "tiny"


def test_auto_takes_a_space_that_ships() -> None:
    assert len(plan_with(space="auto").space.optimizers) > 1


@pytest.mark.parametrize(("guard", "expected"), [(False, None), (True, Guard()), (Guard(blow_up=False),) * 2])
def test_a_guard_is_on_off_or_a_value(guard: Any, expected: Guard | None) -> None:
    assert plan_with(guard=guard).guard == expected


def test_the_studys_name_names_the_folder() -> None:
    assert plan_with(study="My search: 1").out_dir == Path("opttune_runs/My_search_1")
    assert plan_with(study="..").out_dir.parent == Path("opttune_runs")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "best"}, "mode must be 'min' or 'max'"),
        ({"max_steps": None}, "either max_steps or max_epochs, got neither"),
        ({"max_epochs": 3}, "either max_steps or max_epochs, got both"),
        ({"max_steps": 0}, "max_steps must be a whole number >= 1, got 0"),
        ({"max_steps": 1.5}, "max_steps must be a whole number"),
        ({"max_steps": True}, "max_steps must be a whole number"),
        ({"trials": 0}, "trials must be a whole number >= 1"),
        ({"budget": 0.9}, "at least 1 full training"),
        ({"budget": float("nan")}, "budget must be"),
        ({"budget": float("inf")}, "budget must be"),
        ({"budget": "20"}, "budget must be"),
        ({"timeout": 0}, "timeout must be > 0"),
        ({"timeout": "60"}, "timeout must be > 0"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"seed": 2**32}, "seed must be a whole number"),
        ({"engine": "inlien"}, "Did you mean 'inline'"),
        ({"workers": 2, "engine": "inline"}, "workers must be 1"),
        ({"workers": 0}, "workers must be a whole number >= 1"),
        ({"guard": "yes"}, "guard must be"),
        ({"trainer": {"max_steps": 3}}, "max_steps is the length of the search itself"),
        ({"trainer": {"device": 1}}, "the Trainer has no argument 'device'. Did you mean 'devices'"),
        (
            {"trainer": {"callbacks": ["EarlyStopping"]}},
            "callbacks must be Callback objects, got 'EarlyStopping'. .*opttune.search.*--config",
        ),
        ({"trainer": {"callbacks": "EarlyStopping"}}, "callbacks must be Callback objects"),
        ({"trainer": {"fast_dev_run": True}}, "fast_dev_run cannot be combined"),
        ({"trainer": {"barebones": True}}, "barebones cannot be combined with a search: with it self.log does nothing"),
        ({"trainer": lightning.Trainer(logger=False)}, "must be a dict .*'accelerator': 'cpu'.*, got a Trainer"),
        ({"space": "adamv"}, "Did you mean 'adamw'"),
        ({"space": "nowhere/space.yaml"}, "nowhere/space.yaml"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OpttuneError, match=message) as caught:
        plan_with(**settings)

    assert "\n" not in str(caught.value)


def test_what_the_trainer_sets_leaves_the_space() -> None:
    space = make_space(TINY + "gradient_clip_norm: {choices: [1.0, null]}\naccumulate_grad_batches: {choices: [1, 2]}")
    trainer = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 4, "precision": "bf16-mixed"}
    training = dict(plan_with(space=space, trainer=trainer).space.training)

    assert training == {
        "gradient_clip_norm": Fixed(0.5),
        "accumulate_grad_batches": Fixed(4),
        "precision": Fixed(None),
    }


@pytest.mark.parametrize("trainer", [{"gradient_clip_algorithm": "value"}, {"precision": 16}])
def test_clipping_by_value_rules_clipping_by_norm_out(trainer: dict[str, Any]) -> None:
    space = make_space(TINY + "gradient_clip_norm: {choices: [1.0, null]}\n")
    clipping = dict(plan_with(space=space, trainer=trainer).space.training)["gradient_clip_norm"]

    assert clipping == (Fixed(None) if "gradient_clip_algorithm" in trainer else Choice((1.0, None)))


def test_the_users_dict_of_trainer_arguments_is_copied() -> None:
    theirs = {"accelerator": "cpu"}
    config = plan_with(trainer=theirs)
    theirs["accelerator"] = "gpu"

    assert config.trainer == {"accelerator": "cpu"}


def test_errors_are_of_one_family() -> None:
    with pytest.raises(InputError):
        plan_with(budget=0)


@pytest.mark.parametrize(
    ("engine", "workers", "chosen"), [(None, 1, "inline"), (None, 2, "local"), ("local", 1, "local"), ("ray", 3, "ray")]
)
def test_the_engine_follows_from_the_workers_where_none_is_named(engine: str | None, workers: int, chosen: str) -> None:
    config = plan_with(engine=engine, workers=workers)

    assert (config.engine, config.workers) == (chosen, workers)


def test_model_and_data_may_be_named_by_text() -> None:
    model, data = f"{MODULES}:Classifier", f"{MODULES}:loaders"
    _, workload = make_plan(model, data, **USUAL)

    assert workload.name == "Classifier"
    assert (workload.model_reference, workload.data_reference) == (model, data)
    assert make_plan(Classifier, loaders, **USUAL)[1].model_reference == ""


def test_a_projects_config_may_set_both_lengths() -> None:
    assert plan_with(max_epochs=3, ends_at_first=True).length == {"max_steps": 10, "max_epochs": 3}


def test_minimums_are_the_trainers_and_what_is_off_is_left_out() -> None:
    assert plan_with(trainer={"min_epochs": 1, "fast_dev_run": False, "barebones": False}).trainer == {"min_epochs": 1}


def test_the_unit_of_the_budget_is_one_that_there_is() -> None:
    assert plan_with().spec.keys() == plan_with(budget_unit="steps").spec.keys()
    # a study in steps is not resumed in time
    assert plan_with(budget_unit="time").spec["budget_unit"] == "time"
    with pytest.raises(InputError, match=r"unknown budget_unit 'seconds'.*steps, time"):
        plan_with(budget_unit="seconds")


def test_in_time_no_space_varies_what_makes_steps_of_one_optimizer_longer() -> None:
    space = make_space(TINY + "accumulate_grad_batches: {choices: [1, 2]}")
    plan_with(space=space)
    plan_with(space=space, budget_unit="time", trainer={"accumulate_grad_batches": 2})
    with pytest.raises(InputError, match=r"varies accumulate_grad_batches.*--budget-unit steps"):
        plan_with(space=space, budget_unit="time")
