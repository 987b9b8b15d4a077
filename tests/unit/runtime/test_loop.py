"""The loop, and the MLflow database that it leaves."""

from math import isfinite
from pathlib import Path

import pytest
from optuna.trial import TrialState

from opttune.errors import OpttuneError
from opttune.recipe import Recipe
from opttune.space.recipe_file import load_recipe
from opttune.storages.records import RECIPE
from opttune.study.result import SearchResult
from opttune.tracking.training_log import recipe_params
from tests.support.search_models import INSPECTED, Classifier, FailsAboveOneHundredth, FailsInItsFifthStep, loaders
from tests.support.searches import TINY, WILD, Tracked, make_space, run_search

STEPS = 200
FAILING = TINY.replace("{low: 1e-3, high: 1e-1, log: true, prior: 1e-2, source: test}", "{choices: [1e-3, 0.5]}")
DIVERGING_FIRST = WILD.replace("prior: 1e-3", "prior: 1e3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wild")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return run_search(folder, Classifier, data=loaders, space=make_space(DIVERGING_FIRST), max_steps=STEPS, budget=5)


@pytest.fixture(scope="module")
def tracked(folder: Path, result: SearchResult) -> Tracked:
    return Tracked(folder)


@pytest.mark.slow
def test_there_is_one_parent_finished_and_a_child_for_each_trial(tracked: Tracked, result: SearchResult) -> None:
    assert tracked.parent.info.status == "FINISHED"
    assert tracked.parent.info.run_id == result.run_id
    assert [run.data.tags["opttune.trial"] for run in tracked.children] == [str(n) for n in result.trials["number"]]
    assert {run.data.tags["mlflow.parentRunId"] for run in tracked.children} == {result.run_id}
    assert "RUNNING" not in tracked.states


def test_a_diverged_trial_is_killed_in_its_first_steps_with_its_reason(tracked: Tracked, result: SearchResult) -> None:
    diverged = [run for run in tracked.children if run.data.params["lr"] == "1000.0"]

    assert diverged
    for run in diverged:
        tags = run.data.tags
        assert run.info.status == "KILLED"
        assert tags["opttune.state"] == "diverged"
        assert tags["opttune.reason"] in ("blow_up", "non_finite")
        assert int(tags["opttune.stopped_at_step"]) <= 0.05 * STEPS
        assert tags["opttune.message"]


def test_a_diverged_trial_is_pruned_in_optuna_with_a_finite_value_worse_than_every_real_one(
    result: SearchResult,
) -> None:
    pruned = result.study.get_trials(states=(TrialState.PRUNED,))
    real = [trial.value for trial in result.study.get_trials(states=(TrialState.COMPLETE,)) if trial.value]

    assert pruned
    assert all(trial.value is not None and isfinite(trial.value) and trial.value > max(real) for trial in pruned)
    assert result.trials.loc[result.trials["state"] == "pruned", "value"].isna().all()


def test_each_childs_params_are_its_recipe(tracked: Tracked, result: SearchResult) -> None:
    recipes = [Recipe.from_dict(trial.user_attrs[RECIPE]) for trial in result.study.trials]

    assert [run.data.params for run in tracked.children] == [
        {name: str(value) for name, value in recipe_params(recipe).items()} for recipe in recipes
    ]


def test_each_curve_has_one_point_for_each_optimizer_step(tracked: Tracked, result: SearchResult) -> None:
    for run, steps in zip(tracked.children, result.trials["steps"], strict=True):
        for name in ("train/loss", "optim/lr", "optim/grad_norm"):
            assert [step for step, _ in tracked.curve(run, name)] == list(range(1, steps + 1)), name


def test_a_finished_child_holds_the_validation_metrics_and_its_value(tracked: Tracked, result: SearchResult) -> None:
    finished = [run for run in tracked.children if run.info.status == "FINISHED"]
    values = result.trials["value"].dropna()

    assert len(finished) == len(values)
    for run, value in zip(finished, values, strict=True):
        assert tracked.curve(run, "val_loss")[-1] == (STEPS, value)
        assert tracked.curve(run, "objective") == [(STEPS, value)]
        assert tracked.curve(run, "val_acc")


def test_the_learning_rate_of_a_constant_schedule_is_the_recipes(tracked: Tracked) -> None:
    for run in tracked.children:
        assert {value for _, value in tracked.curve(run, "optim/lr")} == {float(run.data.params["lr"])}


def test_the_parent_holds_the_answer(tracked: Tracked, result: SearchResult, folder: Path) -> None:
    tags = tracked.parent.data.tags

    assert tags["opttune.best_value"] == str(result.best_value)
    assert tags["opttune.baseline_value"] == str(result.baseline_value)
    assert tags["opttune.best.lr"] == "0.001"
    assert "RecipeCallback" in tags["mlflow.note.content"]
    assert f"val_loss {result.best_value:.5g}" in tags["mlflow.note.content"]
    assert "best_recipe.yaml" in tracked.artifacts(tracked.parent)
    assert load_recipe(folder / "out" / "best_recipe.yaml") == result.best_recipe


def test_the_parent_says_what_was_searched_and_the_baseline_has_its_curve_in_its_own_run(
    tracked: Tracked,
) -> None:
    params = tracked.parent.data.params
    (baseline,) = (run for run in tracked.runs if run.data.tags.get("opttune.role") == "baseline")

    assert params["full_length_steps"] == str(STEPS)
    assert params["monitor"] == "val_loss"
    assert params["replaced"] == "SGD(lr=0.0001)"
    assert baseline.data.tags["mlflow.parentRunId"] == tracked.parent.info.run_id
    assert [step for step, _ in tracked.curve(baseline, "train/loss")] == list(range(1, STEPS + 1))


def test_the_parents_best_objective_only_falls(tracked: Tracked, result: SearchResult) -> None:
    values = [value for _, value in tracked.curve(tracked.parent, "best/objective")]

    assert values == sorted(values, reverse=True)
    assert values[-1] == result.best_value


@pytest.mark.slow
def test_a_failed_trial_is_failed_with_its_traceback_and_the_search_continues(tmp_path: Path) -> None:
    space = make_space(FAILING)
    found = run_search(tmp_path, FailsAboveOneHundredth, data=loaders, space=space, trials=6, budget=20)
    tracked = Tracked(tmp_path)
    failed = [run for run in tracked.children if run.info.status == "FAILED"]

    assert {"complete", "fail"} <= set(found.trials["state"])
    assert len(failed) == sum(found.trials["state"] == "fail")
    assert found.best_recipe is not None
    for run in failed:
        assert run.data.tags["opttune.state"] == "failed"
        text = tracked.client.download_artifacts(run.info.run_id, "traceback.txt", str(tmp_path))
        assert "is too much for me" in Path(text).read_text()
        groups = tracked.client.download_artifacts(run.info.run_id, "groups.md", str(tmp_path))
        assert "| no decay |" in Path(groups).read_text()


def test_three_trials_that_fail_alike_end_the_search(tmp_path: Path) -> None:
    found = run_search(tmp_path, FailsInItsFifthStep, data=loaders, baseline=False, budget=20)

    assert list(found.trials["state"]) == ["fail"] * 3
    assert found.best_recipe is None
    assert "the last 3 trials failed alike: RuntimeError: no fifth step" in found.warnings[0]
    assert Tracked(tmp_path).parent.info.status == "FINISHED"
    assert "No trial finished with a value" in Tracked(tmp_path).parent.data.tags["mlflow.note.content"]


def test_errors_that_differ_by_a_number_alone_are_alike(tmp_path: Path) -> None:
    space = make_space(TINY.replace("low: 1e-3, high: 1e-1, log: true, prior: 1e-2", "low: 0.05, high: 0.5, log: true"))
    found = run_search(tmp_path, FailsAboveOneHundredth, data=loaders, space=space, baseline=False, budget=20)

    assert len(found.trials) == 3
    assert found.trials["lr"].nunique() == 3


def test_bad_input_found_in_a_trial_leaves_nothing_running(tmp_path: Path) -> None:
    class Forgets(Classifier):
        def validation_step(self, batch: object, batch_idx: int) -> None:
            if self.trainer.global_step <= 3:
                super().validation_step(batch, batch_idx)

    with pytest.raises(OpttuneError, match="never logged"):
        run_search(tmp_path, Forgets, data=loaders, baseline=False)
    tracked = Tracked(tmp_path)

    assert tracked.parent.info.status == "FAILED"
    assert [run.info.status for run in tracked.children] == ["FAILED"]


@pytest.mark.slow
def test_ctrl_c_between_two_trainings_leaves_nothing_running(tmp_path: Path) -> None:
    class Pressed(Classifier):
        trainings = 0

        def __init__(self) -> None:
            super().__init__()
            # outside the fit, where Lightning does not catch it; the inspection comes first
            Pressed.trainings += 1
            if Pressed.trainings == INSPECTED + 3:
                raise KeyboardInterrupt

    settings = {"data": loaders, "baseline": False, "budget": 4}
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path, Pressed, **settings)
    tracked = Tracked(tmp_path)

    assert tracked.parent.info.status == "KILLED"
    assert [run.info.status for run in tracked.children] == ["FINISHED", "FINISHED", "KILLED"]

    found = run_search(tmp_path, Pressed, **settings)
    undisturbed = run_search(tmp_path / "undisturbed", Pressed, **settings)

    assert found.trials[["number", "value"]].equals(undisturbed.trials[["number", "value"]])
    assert [run.info.status for run in Tracked(tmp_path).children] == ["FINISHED"] * 4
    assert Tracked(tmp_path).parent.info.status == "FINISHED"


@pytest.mark.slow
def test_a_space_with_fewer_recipes_than_the_budget_pays_for_is_tried_once(tmp_path: Path) -> None:
    space = make_space("optimizer: {sgd: {lr: {choices: [0.01, 0.1, 1e3]}}}")
    found = run_search(tmp_path, Classifier, data=loaders, space=space, budget=20)

    assert sorted(found.trials["lr"]) == [0.01, 0.1, 1e3]
    assert "all 3 recipes of the space tiny have been tried" in found.warnings
