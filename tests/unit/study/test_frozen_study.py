from pathlib import Path

import pytest

from opttune.errors import InputError
from opttune.storages.open_storage import open_storage
from opttune.storages.study_store import StudyStore
from opttune.study.frozen_study import FrozenStudy, is_first_answer, keep_status, load_study
from opttune.study.result import SearchResult
from tests.support.records import record, stored
from tests.support.search_models import Classifier, loaders
from tests.support.searches import run_search


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("stored")
    return run_search(folder, Classifier, data=loaders, seed=3, study="s", trainer={"accelerator": "cpu"})


@pytest.fixture(scope="module")
def study(result: SearchResult) -> FrozenStudy:
    return load_study(result.config.out_dir)


@pytest.mark.slow
def test_what_is_read_is_what_the_search_gave(result: SearchResult, study: FrozenStudy) -> None:
    assert study.best is not None
    assert (study.best.recipe, study.best.value) == (result.best_recipe, result.best_value)
    assert (study.baseline.value if study.baseline else None) == result.baseline_value
    assert (study.steps_spent, study.total_steps) == (result.steps_spent, 20)
    assert len(study.records) == len(result.trials)
    assert set(study.run_keys) == set(result.trials["number"])
    assert (study.name, study.status, study.origin.replaced) == ("s", "FINISHED", "SGD(lr=0.0001)")


@pytest.mark.slow
def test_the_plan_is_the_searchs_as_far_as_it_is_known(result: SearchResult, study: FrozenStudy) -> None:
    told, read = result.config, study.config

    assert (read.space, read.monitor, read.mode, dict(read.length), read.seed, dict(read.trainer), read.budget) == (
        told.space, told.monitor, told.mode, dict(told.length), told.seed, dict(told.trainer), told.budget,
    )  # fmt: skip


def test_trials_are_ranked_by_their_value_in_the_direction_of_the_mode() -> None:
    records = [record(0, 0.2), record(1), record(2, 0.1), record(3, 0.2)]

    assert [one.number for one in stored(records).ranked] == [2, 0, 3]
    assert [one.number for one in stored(records, mode="max").ranked] == [0, 3, 2]


def test_a_trial_that_is_not_there_is_named() -> None:
    study = stored([record(0)])
    with pytest.raises(InputError, match=r"STUDY: study: no trial of it finished with a value\."):
        study.recipe_of(None)
    with pytest.raises(InputError, match="it has no trial 5 with a recipe"):
        study.recipe_of(5)


def test_a_search_that_began_nothing_is_refused(tmp_path: Path) -> None:
    StudyStore("empty", open_storage(None, tmp_path), {"mode": "min"})
    with pytest.raises(InputError, match="the search 'empty' ended before its first trial"):
        load_study(tmp_path)


def test_the_first_answer_is_the_first_only(study: FrozenStudy) -> None:
    # the search itself has written its own
    assert not is_first_answer(study.study)
    keep_status(study.study, "KILLED")
    assert load_study(study.config.out_dir).status == "KILLED"
