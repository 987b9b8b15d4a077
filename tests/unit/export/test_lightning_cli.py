"""The exported config, given to a LightningCLI, trains as the recipe does, to the last digit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from opttune.export.lightning_cli import lightning_cli_text
from opttune.export.use import Use
from opttune.recipe import Groups, Part, Recipe, Rule
from opttune.training.recipe_callback import RecipeCallback
from opttune.yaml_text import read_yaml
from tests.support.searches import command_env
from tests.support.warm import run_warm
from tests.unit.export.test_python import Net, train

STEPS = 16
USE = Use("trial 3 of the study s", value=0.5, length={"max_steps": STEPS}, seed=0)

MAIN = """
import lightning.pytorch as pl
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader
from tests.unit.export.test_python import Net
from tests.support.search_models import BATCHES, make_points


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(make_points(16 * BATCHES, 0), batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(make_points(64, 1), batch_size=64)


cli = LightningCLI(Net, Data, save_config_callback=None)
import torch
torch.save(cli.model.state_dict(), "weights.pt")
print(*(type(callback).__name__ for callback in cli.trainer.callbacks))
"""

CONFIG = """
seed_everything: 7
trainer:
  max_steps: 3
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  num_sanity_val_steps: 0
  gradient_clip_val: 99
  callbacks:
  - class_path: lightning.pytorch.callbacks.ModelSummary
"""


def test_the_settings_of_a_recipe_are_in_the_config_and_callbacks_are_added() -> None:
    recipe = Recipe(Part("adamw", {"lr": 1e-3}), gradient_clip_norm=0.5, accumulate_grad_batches=2)
    text, notes = lightning_cli_text(recipe, USE)
    plain = read_yaml(text).data

    assert plain["seed_everything"] == 0
    assert plain["trainer"]["gradient_clip_val"] == 0.5
    assert plain["trainer"]["accumulate_grad_batches"] == 2
    assert "precision" not in plain["trainer"]
    (callback,) = plain["trainer"]["callbacks+"]
    assert Recipe.from_dict(callback["init_args"]["recipe_or_path"]) == recipe
    assert notes == ("the config needs opttune where it is used, for RecipeCallback.",)


def test_an_optimizer_that_bounds_its_steps_itself_is_not_clipped() -> None:
    text, _ = lightning_cli_text(Recipe(Part("adafactor", {"lr": 1e-2}), gradient_clip_norm=0.5), USE)

    assert read_yaml(text).data["trainer"]["gradient_clip_val"] is None


def test_a_schedule_that_follows_the_monitor_knows_it() -> None:
    use = Use("file", monitor="val_acc", mode="max")
    text, _ = lightning_cli_text(Recipe(Part("adamw", {"lr": 1e-2}), Part("plateau")), use)
    arguments = read_yaml(text).data["trainer"]["callbacks+"][0]["init_args"]

    assert (arguments["monitor"], arguments["mode"]) == ("val_acc", "max")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "trainer"),
    [
        (
            Recipe(
                Part("adamw", {"lr": 1e-2, "betas": (0.8, 0.9)}),
                Part("cosine", {"warmup_fraction": 0.25}),
                Groups(rules=(Rule("^head", 3.0),)),
                gradient_clip_norm=0.1,
                accumulate_grad_batches=2,
                precision="bf16-mixed",
            ),
            {"precision": "bf16-mixed"},
        ),
        (Recipe(Part("muon", {"lr": 1e-2}), Part("wsd")), {}),
    ],
    ids=["adamw", "muon"],
)
def test_a_lightning_cli_trains_the_same_to_the_last_digit(
    recipe: Recipe, trainer: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("jsonargparse")
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "best.yaml").write_text(lightning_cli_text(recipe, USE)[0])
    command = ["main.py", "fit", "--config", "config.yaml", "--config", "best.yaml"]
    done = run_warm(command, tmp_path, command_env(OMP_NUM_THREADS="1"))
    assert done.returncode == 0, done.stderr
    # the callbacks of the first config are still there
    assert {"ModelSummary", "RecipeCallback"} <= set(done.stdout.splitlines()[-1].split())

    expected = train(Net(), [RecipeCallback(recipe)], trainer)
    got = torch.load(tmp_path / "weights.pt")
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": {"name": "own", "lr_factor": 0.5}},
        {
            "optimizers": [{"name": "own", "lr_factor": 2.0}, {"name": "adamw", "lr": 0.01}],
            "schedules": ["own", "cosine"],
        },
    ],
)
def test_a_recipe_of_own_is_in_the_config_as_in_its_file_and_the_trainers_settings_stay(recipe: dict[str, Any]) -> None:
    made = Recipe.from_dict(recipe)
    text, _ = lightning_cli_text(made, USE)
    (callback,) = read_yaml(text).data["trainer"]["callbacks+"]

    assert Recipe.from_dict(callback["init_args"]["recipe_or_path"]) == made
    assert ("gradient_clip_val" in read_yaml(text).data["trainer"]) == ("optimizers" in recipe)
    assert RecipeCallback(callback["init_args"]["recipe_or_path"]).recipe == made
