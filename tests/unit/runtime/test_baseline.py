"""A search whose baseline was trained elsewhere: it costs nothing, and is handed out where nothing beats it."""

from pathlib import Path
from typing import Any

import pytest

from opttune.errors import InputError, StudyError
from opttune.storages.find_study import find_study
from opttune.study.frozen_study import read_study
from opttune.study.note import write_note
from opttune.study.selection import baseline_record
from tests.support.search_models import Classifier, loaders
from tests.support.searches import TINY, Tracked, make_space, run_search

WITH_OWN = f"{TINY}".replace(
    "schedule:", "  own:\n    lr_factor: {low: 0.1, high: 10, log: true, source: test}\nschedule:"
)


class NoOptimizer(Classifier):
    def configure_optimizers(self) -> Any:
        raise RuntimeError("none")


def search(folder: Path, curve: list[tuple[int, float]] | None, model: Any = Classifier, **how: Any) -> Any:
    path = folder / "curve.csv"
    if curve is not None:
        path.write_text("step,value\n" + "".join(f"{step},{value}\n" for step, value in curve))
    return run_search(folder, model, data=loaders, **{"budget": 1, "study": "s", "baseline_run": path, **how})


@pytest.mark.slow
@pytest.mark.parametrize("space", [TINY, WITH_OWN])
def test_a_given_baseline_that_nothing_beats_is_handed_out_and_has_cost_nothing(tmp_path: Path, space: str) -> None:
    result = search(tmp_path, [(10, 0.5), (20, 1e-6)], space=make_space(space), budget=2)
    assert result.best_value == result.baseline_value == 1e-6
    assert result.best_recipe.is_baseline
    assert (tmp_path / "out" / "best_recipe.yaml").exists()
    assert not (tmp_path / "out" / "best.ckpt").exists()
    # all of the budget went to other recipes
    trained = [record for record in read_study(find_study(tmp_path / "out")).records if not record.is_baseline]
    assert result.steps_spent == sum(record.steps for record in trained) == 40
    (said,) = [one for one in result.warnings if "not trained here" in one]
    assert "curve.csv" in said


def test_a_given_baseline_that_is_beaten_is_compared_with_at_the_rungs(tmp_path: Path) -> None:
    result = search(tmp_path, [(0, 9.0), (20, 5.0)], space=make_space(WITH_OWN))
    assert (result.baseline_value, result.best_recipe.optimizer.name) == (5.0, "adamw")
    assert result.best_value < 5.0
    study = read_study(find_study(tmp_path / "out"))
    baseline = baseline_record(study.records, study.runs)
    assert baseline is not None
    assert (baseline.is_trial, baseline.steps_done) == (True, 0)
    rungs = study.config.rungs(20)[:-1]
    assert [pause.value for pause in baseline.pauses] == [pytest.approx(9 - 4 * rung / 20) for rung in rungs]
    assert f"not trained here: the file {tmp_path / 'curve.csv'}" in write_note(study).replace("\\", "")
    assert "curve.csv" in Tracked(tmp_path).parent.data.tags["opttune.baseline_source"]


@pytest.mark.slow
def test_a_study_keeps_its_given_baseline_and_takes_no_other(tmp_path: Path) -> None:
    first = search(tmp_path, [(20, 5.0)])
    assert search(tmp_path, None, budget=2).baseline_value == 5.0
    assert run_search(tmp_path, Classifier, data=loaders, study="s", budget=2).baseline_value == first.baseline_value
    (tmp_path / "other.csv").write_text("step,value\n20,1\n")
    with pytest.raises(StudyError, match=r"has a baseline, one that was given \(.*curve\.csv\)"):
        search(tmp_path, None, baseline_run=tmp_path / "other.csv")


def test_what_cannot_be_a_baseline_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends at step 10, and a full training has 20"):
        search(tmp_path, [(10, 5.0)])
    with pytest.raises(InputError, match="has no optimizer that works"):
        search(tmp_path, [(20, 5.0)], NoOptimizer)
    with pytest.raises(InputError, match="turns it off: give one"):
        search(tmp_path, [(20, 5.0)], baseline=False)
