"""`opttune.search`, with the real Trainer, Optuna and MLflow."""

from pathlib import Path

import optuna
import pytest
import torch

import opttune
from opttune.errors import InputError, ModelError
from opttune.space.recipe_file import load_recipe
from opttune.study.result import SearchResult
from tests.support.search_models import (
    Classifier,
    PlClassifier,
    PlPoints,
    Points,
    WithoutOptimizer,
    classifier,
    loaders,
    make_classifier,
)
from tests.support.searches import TINY, WILD, Tracked, make_space, run_search, write_space

STEPS, BUDGET = 20, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return run_search(folder, Classifier, data=Points, max_steps=STEPS, budget=BUDGET)


@pytest.mark.slow
def test_the_best_beats_the_baseline(result: SearchResult) -> None:
    assert result.best_value is not None
    assert result.baseline_value is not None
    assert result.best_value < 0.9 * result.baseline_value
    assert result.replaced == "SGD(lr=0.0001)"


def test_the_table_holds_a_row_for_each_trial_and_a_column_for_each_field(result: SearchResult) -> None:
    first = ["number", "state", "reason", "value", "steps", "steps_spent", "rung"]

    assert list(result.trials.columns)[:7] == first
    assert {"optimizer", "lr", "weight_decay", "schedule", "warmup_fraction"} <= set(result.trials.columns)
    assert list(result.trials["number"]) == list(range(BUDGET - 1))
    assert set(result.trials["state"]) == {"complete"}
    assert result.trials["value"].min() == result.best_value


def test_steps_spent_is_what_the_whole_search_had_spent_the_baseline_included(result: SearchResult) -> None:
    # the baseline is trained once a quarter of the budget is spent
    assert list(result.trials["steps_spent"]) == [STEPS * number for number in (1, 2, 4, 5, 6)]
    assert result.steps_spent == BUDGET * STEPS == result.budget_steps


def test_the_study_is_optunas_own_and_best_is_its_best(result: SearchResult) -> None:
    assert isinstance(result.study, optuna.Study)
    assert result.study.study_name == "Classifier-tiny"
    assert result.study.best_value == result.best_value


def test_the_recipe_file_is_the_best_recipe(result: SearchResult, folder: Path) -> None:
    assert load_recipe(folder / "out" / "best_recipe.yaml") == result.best_recipe


def test_the_best_checkpoint_holds_weights_and_optimizer_of_the_full_length(folder: Path, result: SearchResult) -> None:
    state = torch.load(folder / "out" / "best.ckpt", weights_only=True)
    model = Classifier()
    model.load_state_dict(state["state_dict"])

    assert state["global_step"] == STEPS
    assert len(state["optimizer_states"][0]["state"]) == len(list(model.parameters()))


def test_nothing_but_the_contracts_files_is_left(folder: Path, result: SearchResult) -> None:
    left = {path.name for path in (folder / "out").iterdir()}

    assert left == {".lock", "best.ckpt", "best_recipe.yaml", "study.journal"}


def test_a_search_leaves_the_process_as_it_found_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    verbosity = optuna.logging.get_verbosity()
    parameters = [parameter.clone() for parameter in classifier.parameters()]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run_search(tmp_path, classifier, data=loaders, budget=2, max_steps=3)

    assert torch.equal(torch.rand(3), expected)
    assert optuna.logging.get_verbosity() == verbosity
    # an instance is copied for each training
    assert all(torch.equal(*pair) for pair in zip(parameters, classifier.parameters(), strict=True))
    assert "configure_optimizers" not in vars(classifier)
    # nothing is said where the progress is off
    assert capfd.readouterr() == ("", "")


def test_with_progress_the_answer_comes_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_search(tmp_path, Classifier, data=loaders, budget=2, max_steps=3, progress=True)
    shown, printed = capsys.readouterr(), repr(result)

    assert printed.startswith(f"best val_loss {result.best_value:.5g} with adamw(")
    assert f"\n{printed}\ntrain with it    Trainer(max_steps=3, callbacks=[" in shown.err
    assert shown.err.endswith("more than luck?  opttune.confirm(result, model, data)\n")
    assert shown.out == ""


@pytest.mark.slow
def test_the_same_search_gives_the_same_again(result: SearchResult, tmp_path: Path) -> None:
    again = run_search(tmp_path, Classifier, data=Points, max_steps=STEPS, budget=BUDGET)

    assert list(again.trials["value"]) == list(result.trials["value"])
    assert again.best_recipe == result.best_recipe


@pytest.fixture(scope="module")
def first_value(tmp_path_factory: pytest.TempPathFactory) -> float | None:
    """The value of the first trial of a class with a factory of loaders."""
    folder = tmp_path_factory.mktemp("first")
    return run_search(folder, Classifier, data=loaders, budget=1, baseline=False, max_steps=5).best_value


@pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param(make_classifier, Points(), id="factory and data module"),
        pytest.param(classifier, loaders(), id="instance and loaders"),
        pytest.param(Classifier, Points, id="class and data module class"),
    ],
)
def test_every_form_of_model_and_data_gives_the_same_trial(
    model: object, data: object, first_value: float | None, tmp_path: Path
) -> None:
    found = run_search(tmp_path, model, data=data, budget=1, baseline=False, study="same", max_steps=5)

    # the instance was made outside, with its own weights
    if model is not classifier:
        assert found.best_value == first_value
    assert found.best_value is not None
    assert found.baseline_value is None


@pytest.mark.slow
def test_modules_of_pytorch_lightning_are_searched_too(tmp_path: Path) -> None:
    found = run_search(tmp_path, PlClassifier, data=PlPoints, budget=3)

    assert found.best_value is not None
    assert found.baseline_value is not None
    assert found.best_value < found.baseline_value


def test_a_length_in_epochs_counts_in_steps(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=loaders, max_steps=None, max_epochs=2, budget=2)

    assert list(found.trials["steps"]) == [16]
    assert found.budget_steps == 32


@pytest.mark.slow
def test_mode_max_takes_the_largest(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=loaders, monitor="val_acc", mode="max", budget=4)

    assert found.best_value == found.trials["value"].max()
    assert found.study.direction.name == "MAXIMIZE"


def test_a_module_without_an_optimizer_has_no_baseline(tmp_path: Path) -> None:
    found = run_search(tmp_path, WithoutOptimizer, data=loaders, budget=2, max_steps=5)

    assert found.baseline_value is None
    assert found.replaced == "no optimizer"
    assert len(found.trials) == 2


def test_what_the_trainer_is_told_is_in_the_recipes(tmp_path: Path) -> None:
    trainer = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}
    found = run_search(tmp_path, Classifier, data=loaders, budget=2, max_steps=6, trainer=trainer)

    assert found.best_recipe is not None
    assert found.best_recipe.accumulate_grad_batches == 2
    assert found.best_recipe.gradient_clip_norm == 0.5
    assert Tracked(tmp_path).children[0].data.params["gradient_clip_norm"] == "0.5"


def test_clipping_by_value_leaves_no_clipping_by_norm_in_the_recipes(tmp_path: Path) -> None:
    space = make_space(TINY + "gradient_clip_norm: 1.0\n")
    trainer = {"gradient_clip_algorithm": "value"}
    found = run_search(tmp_path, Classifier, data=loaders, budget=1, baseline=False, space=space, trainer=trainer)

    assert found.best_recipe is not None
    assert found.best_recipe.gradient_clip_norm is None


@pytest.mark.slow
def test_a_space_may_be_a_file_and_the_storage_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    path = write_space(tmp_path, TINY, "mine")
    found = run_search(tmp_path, Classifier, data=loaders, space=path, storage=url, budget=2, max_steps=5)

    assert optuna.load_study(study_name="Classifier-mine", storage=url).best_value == found.best_value
    assert not (tmp_path / "out" / "study.journal").exists()


@pytest.mark.slow
def test_the_number_of_trials_ends_a_search(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=loaders, trials=2, budget=20, max_steps=5)

    assert len(found.trials) == 2
    assert found.steps_spent == 15


@pytest.mark.slow
def test_the_baseline_has_its_turn_where_time_is_what_ends_a_search(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=loaders, timeout=6, budget=1000, max_steps=5)

    assert found.steps_spent < found.budget_steps / 4
    assert found.baseline_value is not None


def test_the_time_ends_a_search(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=loaders, timeout=0.01, budget=1000, max_steps=5)

    # one training may have begun in time
    assert len(found.trials) <= 1
    assert found.baseline_value is None
    assert list(found.trials.columns)[:4] == ["number", "state", "reason", "value"]


def test_a_budget_that_is_no_whole_number_is_never_overdrawn(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=loaders, budget=3.9, max_steps=10)

    assert found.steps_spent == 30
    assert found.budget_steps == 39


@pytest.mark.slow
def test_diverged_trials_cost_what_they_did_and_leave_room_for_others(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=loaders, space=make_space(WILD), budget=9, max_steps=100)

    assert found.steps_spent <= 900
    assert len(found.trials) > 8
    assert found.steps_spent == found.trials["steps"].sum() + 100


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match=r"cannot write to the folder .*file/below"):
        run_search(tmp_path, Classifier, data=loaders, out_dir=tmp_path / "file" / "below")


@pytest.mark.slow
def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="storage sqlite:////nowhere"):
        run_search(tmp_path, Classifier, data=loaders, storage="sqlite:////nowhere/at/all.db")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LightningModule"):
        run_search(tmp_path, 3, data=loaders)


def test_a_search_that_finds_nothing_better_says_so(tmp_path: Path) -> None:
    infeasible = make_space(TINY.replace("low: 1e-3, high: 1e-1, log: true, prior: 1e-2", "low: 1e-9, high: 1e-8"))
    found = run_search(tmp_path, Classifier, data=loaders, space=infeasible, budget=2)

    assert any("no recipe beats the baseline" in words for words in found.warnings)


def test_the_search_is_reached_from_the_package() -> None:
    assert opttune.search.__module__ == "opttune.api"
