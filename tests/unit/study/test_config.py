from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from opttune.space.parse import load_space
from opttune.storages.study_folder import folder_name
from opttune.study.config import SearchConfig

PLAN = SearchConfig(load_space("adamw"), "val_loss", "min", {"max_steps": 10}, "study", Path("runs/study"))


def test_a_plan_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAN.budget = 3  # type: ignore[misc]


def test_what_a_study_is_made_for_leaves_out_how_long_it_may_take() -> None:
    assert set(PLAN.spec) == {"space", "trainer", "monitor", "mode", "length", "seed"}


def test_all_files_are_in_the_folder() -> None:
    assert PLAN.best_recipe_path == Path("runs/study/best_recipe.yaml")
    assert PLAN.best_checkpoint_path == Path("runs/study/best.ckpt")
    assert PLAN.checkpoint_folder == Path("runs/study/checkpoints")
    assert PLAN.final_folder == Path("runs/study/finalists")


@pytest.mark.parametrize("name", ["a/b", "..", "Net: wide", ".", "", "ü-1.2"])
def test_a_studys_folder_is_inside_the_given_one(name: str, tmp_path: Path) -> None:
    folder = tmp_path / folder_name(name)

    assert folder.resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize(("monitor", "slip"), [("val_acc", True), ("valid/accuracy", True), ("val_loss", False)])
def test_searching_the_lowest_accuracy_is_called_a_slip(monitor: str, slip: bool) -> None:
    config = replace(PLAN, monitor=monitor)
    assert bool(config.mode_warning) is slip
    assert replace(config, mode="max").mode_warning == ""
