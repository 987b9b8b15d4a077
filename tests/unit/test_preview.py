"""What is looked at before anything is trained; what the command prints of it is tested in test_cli.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.errors import MissingExtraError, MonitorError
from opttune.planning import make_plan
from opttune.preview import budget_steps, inspect_workload, preview, settle_for
from opttune.study.config import SearchConfig
from opttune.training.workload import Workload
from tests.support import several_optimizers as several
from tests.support.search_models import Classifier, loaders
from tests.support.searches import TINY, make_space


def plan_for(folder: Path, **settings: Any) -> tuple[SearchConfig, Workload]:
    told: dict[str, Any] = {
        "space": make_space(TINY), "monitor": "val_loss", "mode": "min", "max_steps": 20, "max_epochs": None,
        "budget": 5.5, "trials": None, "timeout": None, "workers": 1, "engine": None, "study": None,
        "out_dir": folder, "seed": 0, "guard": None, "baseline": True, "trainer": None,
    }  # fmt: skip
    return make_plan(Classifier, loaders, **{**told, **settings})


def test_it_says_what_would_be_done_and_leaves_nothing(tmp_path: Path) -> None:
    plain = preview(*plan_for(tmp_path))

    assert plain["replaces"] == "SGD(lr=0.0001)"
    assert (plain["full_length_steps"], plain["budget_steps"]) == (20, 110)
    assert plain["optimizers"] == ["adamw"]
    assert list(tmp_path.iterdir()) == []


def test_a_look_of_a_step_finds_a_metric_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="val_lost"):
        inspect_workload(*plan_for(tmp_path, monitor="val_lost"), steps=1)


def test_a_space_of_the_users_own_is_searched_as_it_is(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path)
    looked = inspect_workload(config, workload, steps=0)

    assert settle_for(config, looked).space == config.space
    assert budget_steps(config, looked) == 110


def test_a_missing_extra_is_told_before_its_first_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, workload = plan_for(tmp_path)
    looked = inspect_workload(config, workload, steps=0)

    def missing(info: Any) -> None:
        raise MissingExtraError("pip install it")

    monkeypatch.setattr("opttune.build.load.load_class", missing)
    with pytest.raises(MissingExtraError):
        settle_for(config, looked)


def test_the_groups_shown_of_several_optimizers_are_those_that_auto_keeps(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path, space="auto", budget=10)
    plain = preview(config, replace(workload, model=several.Gan, data=several.loaders))

    assert plain["optimizers"] == ["own+own"]
    assert "| generator: group 1 |" in plain["groups"]


class WarmsUpItself(Classifier):
    """Sets its rate in each step, as nanoGPT does."""

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = 1e-3 * (self.global_step + 1)
        super().optimizer_step(*args, **kwargs)


def test_code_that_sets_the_rate_is_found_before_another_schedule_is_searched(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path, space="own")
    for model, expected in ((WarmsUpItself, ["own"]), (Classifier, ["own", "cosine", "linear"])):
        inspection = inspect_workload(config, replace(workload, model=model), steps=3)
        assert [branch.name for branch in settle_for(config, inspection).space.schedules] == expected
