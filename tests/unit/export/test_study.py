from pathlib import Path

import pytest

from opttune.errors import InputError
from opttune.export import export_recipe, export_study
from opttune.export.use import Use
from opttune.recipe import Part, Recipe
from opttune.space.recipe_file import load_recipe, save_recipe
from opttune.study.result import SearchResult
from tests.support.search_models import Classifier, loaders
from tests.support.searches import run_search

RECIPE = Recipe(Part("adamw", {"lr": 1e-3}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return run_search(folder, Classifier, data=loaders, budget=4, study="s")


@pytest.mark.slow
def test_the_recipe_is_the_searchs_own_file(result: SearchResult, folder: Path) -> None:
    exported = export_study(str(folder / "out"), "recipe")

    assert exported.recipe == result.best_recipe
    assert exported.text == result.config.best_recipe_path.read_text()


@pytest.mark.slow
def test_another_trial_may_be_asked_for(result: SearchResult, folder: Path) -> None:
    exported = export_study(str(folder / "out"), "recipe", trial=0)

    assert exported.recipe.optimizer["lr"] == result.trials["lr"][0]
    assert exported.text.startswith("# trial 0 of the study s: val_loss ")
    with pytest.raises(InputError, match="it has no trial 99 with a recipe"):
        export_study(str(folder / "out"), "recipe", trial=99)


def test_a_recipe_file_may_replace_a_study(tmp_path: Path) -> None:
    save_recipe(RECIPE, tmp_path / "mine.yaml")
    exported = export_study(str(tmp_path / "mine.yaml"), "python")

    assert "torch.optim.AdamW(" in exported.text
    (tmp_path / "again.yaml").write_text(export_study(str(tmp_path / "mine.yaml"), "recipe").text)
    assert load_recipe(tmp_path / "again.yaml") == RECIPE


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown format 'pyton'\. Did you mean 'python'"):
        export_recipe(RECIPE, "pyton", Use("file"))
