"""`opttune.search` called again: it resumes where it ended, or says why it cannot."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from opttune import RecipeCallback
from opttune.errors import StudyError
from tests.support.models import quiet_trainer
from tests.support.search_models import Classifier, loaders
from tests.support.searches import TINY, Tracked, make_space, run_search


class Wide(Classifier):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, width)


def test_called_again_with_a_larger_budget_it_resumes(tmp_path: Path) -> None:
    first = run_search(tmp_path, Classifier, data=loaders, budget=3)
    then = run_search(tmp_path, Classifier, data=loaders, budget=5)
    at_once = run_search(tmp_path / "undisturbed", Classifier, data=loaders, budget=5)
    # when the baseline is trained follows from the budget
    finished = ["number", "value", "lr", "schedule"]

    assert then.trials[finished].head(2).equals(first.trials[finished])
    assert then.trials[finished].equals(at_once.trials[finished])
    assert then.run_id == first.run_id
    assert then.steps_spent == 100
    assert len(Tracked(tmp_path).parents) == 1


def test_called_again_with_the_same_budget_it_trains_nothing(tmp_path: Path) -> None:
    first = run_search(tmp_path, Classifier, data=loaders, budget=3)
    curves = [Tracked(tmp_path).curve(run, "train/loss") for run in Tracked(tmp_path).children]
    again = run_search(tmp_path, Classifier, data=loaders, budget=3)
    tracked = Tracked(tmp_path)

    assert again.trials.equals(first.trials)
    assert again.best_recipe == first.best_recipe
    assert again.baseline_value == first.baseline_value
    assert [tracked.curve(run, "train/loss") for run in tracked.children] == curves
    assert tracked.parent.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"space": make_space(TINY.replace("1e-3", "1e-4"))}, "space.optimizer.adamw.lr.low"),
        ({"max_steps": 6}, "length.max_steps"),
        ({"max_steps": None, "max_epochs": 1}, "length.max_epochs"),
        ({"monitor": "val_acc"}, "monitor"),
        ({"monitor": "val_loss", "mode": "max"}, "mode"),
        ({"seed": 1}, "seed"),
    ],
)
def test_a_study_for_another_search_is_refused(study_of_five_steps: Path, other: dict[str, Any], word: str) -> None:
    with pytest.raises(StudyError, match=f"made for another search.*{word}"):
        run_search(study_of_five_steps, Classifier, **{"data": loaders, "budget": 2, "max_steps": 5, **other})


@pytest.fixture(scope="module")
def study_of_five_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("five")
    run_search(folder, Classifier, data=loaders, budget=2, max_steps=5)
    return folder


def test_two_searches_in_one_folder_at_a_time_are_refused(study_of_five_steps: Path) -> None:
    class Searching(Classifier):
        def on_fit_start(self) -> None:
            run_search(study_of_five_steps, Classifier, data=loaders)

    with pytest.raises(StudyError, match="another search is running"):
        run_search(study_of_five_steps, Searching, data=loaders, study="another")


@pytest.mark.slow
def test_without_mlflow_a_search_runs_all_the_same_and_delivers_the_next_time(tmp_path: Path) -> None:
    settings = {"data": loaders, "budget": 3, "max_steps": 5}
    first = run_search(tmp_path, Classifier, **settings, tracking_uri="http://127.0.0.1:9")
    then = run_search(tmp_path, Classifier, **settings)
    tracked = Tracked(tmp_path)

    assert first.best_value is not None
    assert first.run_id is None
    assert any("entries wait in" in warning for warning in first.warnings)
    assert not any("entries wait in" in warning for warning in then.warnings)
    assert tracked.parent.info.status == "FINISHED"
    assert [run.info.status for run in tracked.children] == ["FINISHED"] * 2
    assert [step for step, _ in tracked.curve(tracked.children[0], "train/loss")] == [1, 2, 3, 4, 5]


def relabelled() -> tuple[Any, Any]:
    train, val = loaders()
    train.dataset.tensors = (train.dataset.tensors[0] + 1, *train.dataset.tensors[1:])
    return train, val


@pytest.mark.parametrize(
    ("model", "data", "word"),
    [
        (lambda: Wide(5), loaders, "another model .hidden.weight: 4x8 in the study, 5x8 now"),
        (partial(Wide, 4), relabelled, "other data .the training samples hold other values"),
    ],
    ids=["model", "data"],
)
def test_a_study_for_another_model_or_other_data_is_refused(tmp_path: Path, model: Any, data: Any, word: str) -> None:
    run_search(tmp_path, partial(Wide, 4), data=loaders, budget=1, baseline=False, max_steps=5, study="one")
    with pytest.raises(StudyError, match=rf"'one' was made for {word}.*study='NAME' \(--study NAME\)"):
        run_search(tmp_path, model, data=data, budget=2, baseline=False, max_steps=5, study="one")


def test_an_instance_that_was_trained_since_is_refused(tmp_path: Path) -> None:
    model = Classifier()
    settings = {"data": loaders, "baseline": False, "max_steps": 5, "study": "one"}
    first = run_search(tmp_path, model, **settings, budget=1)
    again = run_search(tmp_path, model, **settings, budget=2)
    assert again.trials.loc[:0].equals(first.trials)

    # as in a notebook whose cells are run again
    quiet_trainer(RecipeCallback(first.best_recipe), max_steps=5).fit(model, *loaders())
    with pytest.raises(StudyError, match=r"'one' was made for other weights .*was trained since.*or give its class"):
        run_search(tmp_path, model, **settings, budget=3)


def test_a_study_that_does_not_know_its_model_opens(tmp_path: Path) -> None:
    first = run_search(tmp_path, Classifier, data=loaders, budget=1, baseline=False, max_steps=5)
    journal = tmp_path / "out" / "study.journal"
    kept = [line for line in journal.read_text().splitlines(keepends=True) if "opttune.identity" not in line]
    journal.write_text("".join(kept))
    again = run_search(tmp_path, Classifier, data=loaders, budget=1, baseline=False, max_steps=5)
    assert again.trials.equals(first.trials)
