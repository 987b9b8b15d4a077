from pathlib import Path

import pytest

from opttune.engines.engine import ENGINE_FOLDER
from opttune.errors import StudyError
from opttune.storages.open_storage import lock_folder
from opttune.study.sync import sync_studies
from opttune.tracking.writer import TrackingWriter
from tests.support.search_models import Classifier, loaders
from tests.support.searches import Tracked, make_database, run_search

NOWHERE = "http://127.0.0.1:9"


def search_without_mlflow(folder: Path) -> Path:
    out = folder / "opttune_runs" / "s"
    result = run_search(
        folder, Classifier, data=loaders, study="s", max_steps=5, budget=3, tracking_uri=NOWHERE, out_dir=out
    )
    assert result.run_id is None
    assert any("entries wait" in warning for warning in result.warnings)
    return out


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_what_a_search_could_not_deliver_is_delivered_later_whole(folder: Path) -> None:
    out = search_without_mlflow(folder)
    (delivered,) = sync_studies([], None, make_database(folder), 60)

    assert (delivered.waiting, delivered.problem) == (0, "")
    assert delivered.delivered > 20
    assert not (out / "spool").exists()
    tracked = Tracked(folder)
    assert set(tracked.states) == {"FINISHED"}
    assert [[step for step, _ in tracked.curve(run, "train/loss")] for run in tracked.children] == [[1, 2, 3, 4, 5]] * 2
    assert "best_recipe.yaml" in tracked.artifacts(tracked.parent)
    # once more, and nothing is left to do
    assert sync_studies(["s"], None, None, 60) == []


@pytest.mark.slow
def test_the_workers_of_others_that_share_a_study_keep_their_files(folder: Path) -> None:
    out = search_without_mlflow(folder)
    workers = out / f"{ENGINE_FOLDER}of-a-search-that-lives"
    workers.mkdir()
    sync_studies([], None, make_database(folder), 60)

    assert workers.exists()


@pytest.mark.slow
def test_while_mlflow_is_away_everything_waits_on(folder: Path) -> None:
    search_without_mlflow(folder)
    # where the search wrote to is where it is tried again
    (tried,) = sync_studies([], None, None, 1)

    assert tried.delivered == 0
    assert tried.waiting > 20
    assert "127.0.0.1:9" in tried.problem


def test_a_search_that_runs_is_left_alone(folder: Path) -> None:
    out = folder / "opttune_runs" / "s"
    writer = TrackingWriter(NOWHERE, out / "spool", flush_seconds=0.05)
    writer.tags("k", {"a": "b"})
    writer.close(0.2)
    with lock_folder(out), pytest.raises(StudyError, match="another search is running"):
        sync_studies([], None, None, 1)


def test_without_anything_there_is_nothing_to_deliver(folder: Path) -> None:
    assert sync_studies([], None, None, 1) == []
