from pathlib import Path

import pytest

from opttune.errors import InputError
from opttune.report.write import curves_of, make_charts, write_report
from opttune.study.frozen_study import FrozenStudy, load_study
from opttune.study.result import SearchResult
from tests.support.records import full_study
from tests.support.search_models import Classifier, loaders
from tests.support.searches import run_search

NAMES = ["best_over_cost", "equal_cost", "value_over_lr", "learning_curves", "halving", "schedules"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    # long enough for rungs
    return run_search(tmp_path_factory.mktemp("report"), Classifier, data=loaders, budget=5, max_steps=90)


@pytest.fixture(scope="module")
def study(result: SearchResult) -> FrozenStudy:
    return load_study(result.config.out_dir)


def test_every_chart_of_which_something_is_known_is_made() -> None:
    assert [chart.name for chart in make_charts(full_study(), {})] == NAMES


@pytest.mark.slow
def test_the_curves_come_from_mlflow(study: FrozenStudy) -> None:
    curves = curves_of(study)

    assert set(curves) == {record.number for record in study.records}
    for record in study.records:
        assert [step for step, _ in curves[record.number]["train/loss"]] == list(range(1, record.steps + 1))
        assert curves[record.number]["val_loss"][-1][0] == record.steps


@pytest.mark.slow
def test_without_mlflow_the_report_is_made_without_its_curves(study: FrozenStudy, tmp_path: Path) -> None:
    written = write_report(study, tmp_path, "http://127.0.0.1:9")

    assert (tmp_path / "learning_curves.png").exists()
    assert written[0] == tmp_path / "report.html"


@pytest.mark.slow
def test_a_result_writes_its_report_into_its_folder_or_where_it_is_told(result: SearchResult, tmp_path: Path) -> None:
    assert result.report() == result.config.out_dir / "report.html"
    assert result.report(tmp_path / "sub" / "mine.html") == tmp_path / "sub" / "mine.html"
    assert sorted(path.suffix for path in (tmp_path / "sub").iterdir()).count(".png") >= 4


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_named(study: FrozenStudy, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write the report to .*file/below"):
        write_report(study, tmp_path / "file" / "below")
