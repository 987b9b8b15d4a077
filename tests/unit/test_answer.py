"""What a search says to MLflow at its two ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from opttune.errors import InputError
from opttune.recipe import Recipe
from opttune.study.result import SearchResult
from opttune.tracking.settings import Tracking
from tests.support.search_models import Classifier, loaders
from tests.support.searches import Tracked, run_search


def search(folder: Path, **settings: Any) -> SearchResult:
    defaults = {"tracking": Tracking(log_model=True), "budget": 4, "max_steps": 10, "study": "s"}
    return run_search(folder, Classifier, data=loaders, **{**defaults, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("answer")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return search(folder)


@pytest.fixture(scope="module")
def tracked(result: SearchResult, folder: Path) -> Tracked:
    return Tracked(folder)


@pytest.mark.slow
def test_the_parent_says_what_was_asked_and_what_it_ran_with(tracked: Tracked) -> None:
    params, tags = tracked.parent.data.params, tracked.parent.data.tags

    assert {"space", "seed", "monitor", "max_steps", "model", "replaced"} <= params.keys()
    assert (tags["opttune.budget"], tags["opttune.budget_steps"]) == ("4", "40")
    assert {"opttune.torch_version", "opttune.mlflow_version", "opttune.opttune_version"} <= tags.keys()
    assert tags["mlflow.source.name"].endswith("search_models.py")
    assert len(tags.get("mlflow.source.git.commit", "0" * 40)) == 40


def test_the_best_recipe_is_there_as_params_tags_and_artifact(tracked: Tracked, result: SearchResult) -> None:
    params, tags = tracked.parent.data.params, tracked.parent.data.tags
    assert result.best_recipe is not None

    assert params["best/lr"] == tags["opttune.best.lr"] == str(result.best_recipe.optimizer["lr"])
    assert params["best/value"] == str(result.best_value)
    assert int(params["best/after_steps"]) == result.steps_spent
    assert "best_recipe.yaml" in tracked.artifacts(tracked.parent)


def test_the_curve_of_the_best_reaches_as_far_as_the_search(tracked: Tracked, result: SearchResult) -> None:
    curve = tracked.curve(tracked.parent, "best/objective")
    values = [value for _, value in curve]

    assert curve[-1] == (result.steps_spent, result.best_value)
    assert values == sorted(values, reverse=True)


def test_report_pictures_summary_and_model_are_artifacts(tracked: Tracked, folder: Path) -> None:
    there = tracked.artifacts(tracked.parent)
    inside = {
        found.path
        for each in ("report", "model")
        for found in tracked.client.list_artifacts(tracked.parent.info.run_id, each)
    }

    assert {"report.html", "model_summary.txt"} <= there
    assert {"report/best_over_cost.png", "report/value_over_lr.png", "model/best.ckpt"} <= inside
    assert (folder / "out" / "report.html").exists()


def test_children_say_their_cost_their_rung_and_log10_of_the_rate(tracked: Tracked) -> None:
    for run in tracked.children:
        assert 10 ** float(run.data.params["log10_lr"]) == pytest.approx(float(run.data.params["lr"]))
        assert run.data.metrics["cost/seconds"] > 0
        assert run.data.metrics["cost/steps_per_second"] > 0
        # AdamW keeps two numbers and a step for each of the module's weights
        assert run.data.metrics["cost/optimizer_state_bytes"] > 8 * 200
        assert run.data.tags["opttune.rung"] == "1.00"
        assert "groups.md" in tracked.artifacts(run)
        assert len(run.info.run_name) <= 20


@pytest.mark.slow
def test_a_resumed_search_moves_the_tags_and_leaves_the_params_with_what_they_are_of(tmp_path: Path) -> None:
    first = search(tmp_path, tracking=Tracking(report=False))
    second = search(tmp_path, tracking=Tracking(report=False), budget=9)
    parent = Tracked(tmp_path).parent

    assert parent.data.tags["opttune.budget"] == "9"
    assert parent.data.tags["opttune.best_value"] == str(second.best_value)
    assert parent.data.params["best/value"] == str(first.best_value)
    assert int(parent.data.params["best/after_steps"]) == first.steps_spent
    assert second.warnings == () or "refused" not in " ".join(second.warnings)


@pytest.mark.slow
def test_without_thinning_every_step_of_a_long_training_is_there(tmp_path: Path) -> None:
    thinned = {"budget": 1, "max_steps": 1100, "baseline": False, "trials": 1}
    search(tmp_path / "a", tracking=Tracking(report=False, thin=False), **thinned)
    search(tmp_path / "b", tracking=Tracking(report=False), **thinned)
    whole, thin = Tracked(tmp_path / "a"), Tracked(tmp_path / "b")

    assert [step for step, _ in whole.curve(whole.children[0], "train/loss")] == list(range(1, 1101))
    assert len(thin.curve(thin.children[0], "train/loss")) <= 1000


def test_the_same_recipe_file_is_what_the_tags_say(tracked: Tracked, result: SearchResult) -> None:
    assert isinstance(result.best_recipe, Recipe)
    for name, value in result.best_recipe.flat().items():
        assert tracked.parent.data.tags[f"opttune.best.{name}"] == str(value)


@pytest.mark.slow
def test_what_it_trained_on_is_in_mlflow_where_it_is_wanted(tmp_path: Path, tracked: Tracked) -> None:
    search(tmp_path, tracking=Tracking(report=False, log_data=True))
    search(tmp_path, tracking=Tracking(report=False, log_data=True), budget=6)  # resumed: each is there once
    own = Tracked(tmp_path)

    for run in (own.parent, *own.children):
        found = {tag.value: entry.dataset for entry in run.inputs.dataset_inputs for tag in entry.tags}
        assert set(found) == {"training", "validation"}
        assert len(run.inputs.dataset_inputs) == 2
        assert found["training"].name == "loaders training"
        assert json.loads(found["training"].profile)["samples"] > 0
        assert json.loads(found["training"].source)["file"].endswith("search_models.py")
    assert tracked.parent.inputs.dataset_inputs == []


@pytest.mark.slow
def test_the_load_of_the_machine_is_in_mlflow_where_it_is_wanted(tmp_path: Path, tracked: Tracked) -> None:
    search(tmp_path, tracking=Tracking(report=False, system_metrics=True))
    own = Tracked(tmp_path)

    trained = [run for run in own.children if run.data.tags["opttune.state"] == "complete"]
    assert trained
    assert all(own.curve(run, "system/cpu_utilization_percentage") for run in (own.parent, *trained))
    assert not any(name.startswith("system/") for name in tracked.parent.data.metrics)


def test_an_interval_of_the_load_that_is_no_number_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "often")
    with pytest.raises(InputError, match="must be a number of seconds, got 'often'"):
        search(tmp_path, tracking=Tracking(report=False, system_metrics=True))
    assert not (tmp_path / "out").exists()


class WithoutOptimizer(Classifier):
    def configure_optimizers(self) -> Any:
        raise ValueError("not yet written")


@pytest.mark.parametrize("baseline", [True, False])
def test_a_missing_baseline_is_told_unless_it_was_not_wanted(baseline: bool, tmp_path: Path) -> None:
    settings = {"max_steps": 10, "budget": 2, "trials": 1, "baseline": baseline}
    result = run_search(tmp_path, WithoutOptimizer, data=loaders, **settings)
    told = [warning for warning in result.warnings if "baseline" in warning]

    assert result.best_value is not None
    assert told == (
        [
            "there is no baseline to compare with: the module has its own configure_optimizers, which fails "
            "(ValueError: not yet written)."
        ]
        if baseline
        else []
    )
