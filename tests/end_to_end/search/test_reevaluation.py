"""The end of a search: the top candidates on a second seed, whatever stops the search meanwhile."""

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

import opttune
from opttune.outcome import Outcome
from opttune.space.recipe_file import load_recipe
from opttune.study.frozen_study import load_study
from opttune.study.result import SearchResult
from tests.support.search_models import Lucky, loaders, read_moves
from tests.support.searches import MODULES, Tracked, make_database, make_space, run_command, run_search, write_space

LENGTH = 20
SPACE = """
description: only the rate varies
optimizer:
  sgd:
    lr: {low: 1e-3, high: 1e-1, log: true, prior: 1e-2, source: test}
schedule: {constant: {}}
"""
SETTINGS: dict[str, Any] = {"data": loaders, "max_steps": LENGTH, "budget": 14, "study": "s", "baseline": False}
FILES = {".lock", "best.ckpt", "best_recipe.yaml", "study.journal"}


def search_in(folder: Path, model: Any = Lucky, **settings: Any) -> SearchResult:
    folder.mkdir(exist_ok=True)
    with chdir(folder):
        return run_search(folder, model, **{"space": make_space(SPACE), **SETTINGS, **settings})


def replicates_in(folder: Path) -> dict[int, list[Outcome]]:
    """What the recipes of trials gave on the second seed, by the number of the trial."""
    return {
        record.number: list(record.replicates) for record in load_study(folder / "out").records if record.replicates
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return search_in(folder)


def top_two(result: SearchResult) -> list[int]:
    """The luckiest first."""
    return list(result.trials.sort_values("value")["number"][:2])


def test_the_two_best_are_trained_once_more_and_nothing_else(folder: Path, result: SearchResult) -> None:
    replicates = replicates_in(folder)

    assert set(replicates) == set(top_two(result))
    assert [len(outcomes) for outcomes in replicates.values()] == [1, 1]
    assert result.steps_spent == result.trials["steps"].sum() + 2 * LENGTH
    assert result.budget_steps - LENGTH < result.steps_spent <= result.budget_steps


def test_the_recipe_that_is_better_over_both_seeds_is_handed_out(folder: Path, result: SearchResult) -> None:
    luckiest, second = top_two(result)
    rates, values = result.trials["lr"], result.trials["value"]

    assert result.best_recipe is not None
    assert result.best_recipe.optimizer["lr"] == rates[second] > rates[luckiest]
    assert result.best_value == values[second] > values[luckiest]
    assert load_recipe(folder / "out" / "best_recipe.yaml") == result.best_recipe
    assert any(sentence.startswith(f"trial {luckiest} had the best val_loss") for sentence in result.warnings)


def test_the_checkpoint_is_that_of_the_recipe(folder: Path, result: SearchResult) -> None:
    state = torch.load(folder / "out" / "best.ckpt", weights_only=True)

    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == result.best_recipe.optimizer["lr"]  # type: ignore[union-attr]
    assert state["global_step"] == LENGTH
    assert {path.name for path in (folder / "out").iterdir()} == FILES


def test_a_replicate_has_its_own_run_with_every_step_once(folder: Path, result: SearchResult) -> None:
    tracked = Tracked(folder)
    replicates = [run for run in tracked.runs if run.data.tags["opttune.role"] == "replicate"]
    for number in top_two(result):
        (run,) = (run for run in replicates if run.data.tags["opttune.trial"] == str(number))
        curve = tracked.curve(run, "train/loss")
        assert run.data.tags["opttune.seed"] == run.data.params["seed"] == "1"
        assert [step for step, _ in curve] == list(range(1, LENGTH + 1))
    note = tracked.parent.data.tags["mlflow.note.content"]

    assert len(tracked.children) == len(result.trials)
    for number, (outcome,) in replicates_in(folder).items():
        assert f"| {number} | {result.trials['value'][number]:.5g}, {outcome.value:.5g} |" in note


def test_a_replicate_can_be_had_again_with_the_next_seed(folder: Path, result: SearchResult, tmp_path: Path) -> None:
    number = top_two(result)[1]
    lightning.seed_everything(1, workers=True)
    with chdir(tmp_path):
        trainer = lightning.Trainer(
            max_steps=LENGTH,
            logger=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            callbacks=[opttune.RecipeCallback(folder / "out" / "best_recipe.yaml")],
        )
        trainer.fit(Lucky(), *loaders())

    assert trainer.callback_metrics["val_loss"].item() == replicates_in(folder)[number][0].value


def test_the_same_call_again_trains_nothing(folder: Path, result: SearchResult) -> None:
    before = len(read_moves(folder))
    found = search_in(folder)

    assert len(read_moves(folder)) == before
    assert found.best_recipe == result.best_recipe
    assert found.steps_spent == result.steps_spent


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "repeat", "step"), [("SIGINT", 0, 7), ("SIGKILL", 0, -1), ("SIGKILL", 1, 7)])
def test_a_search_that_is_stopped_in_its_reevaluation_continues(
    kind: str, repeat: int, step: int, folder: Path, result: SearchResult, tmp_path: Path
) -> None:
    ended = len(result_moves(folder)) - 2 + repeat
    make_database(tmp_path)
    (tmp_path / "stop.json").write_text(json.dumps([ended, step, kind]))
    arguments = ("--space", write_space(tmp_path, SPACE), "--max-steps", LENGTH, "--budget", 14, "--study", "s")
    stopped = run_command(
        tmp_path, "search", f"{MODULES}:Lucky", f"{MODULES}:loaders", *map(str, arguments), "--no-baseline",
        "--engine", "inline", "--out-dir", "out", "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}",
    )  # fmt: skip

    assert stopped.returncode == (130 if kind == "SIGINT" else -9)
    found = search_in(tmp_path, budget=14)
    columns = ["number", "state", "value", "steps", "lr"]

    assert found.trials[columns].equals(result.trials[columns])
    assert found.best_recipe == result.best_recipe
    assert {number: [one.value for one in outcomes] for number, outcomes in replicates_in(tmp_path).items()} == {
        number: [one.value for one in outcomes] for number, outcomes in replicates_in(folder).items()
    }
    assert "RUNNING" not in Tracked(tmp_path).states
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def result_moves(folder: Path) -> list[dict[str, Any]]:
    """The trainings of the undisturbed search: the trials, the replicates."""
    return [move for move in read_moves(folder) if move["end"] == LENGTH]
