import pytest

from opttune.tracking.reading import read_curves
from opttune.tracking.study_run import open_study_run


@pytest.fixture
def study(uri, tmp_path):
    study = open_study_run(tracking_uri=uri, study_name="net", spool_dir=tmp_path / "spool", run_id=None)
    for number in range(3):
        child = study.child(f"#{number}", f"key {number}")
        for step in (3, 1, 2):
            child.log(step, {"train/loss": number + step, "other": 1.0})
    study.flush()
    yield study
    study.close()


def test_curves_are_read_by_the_keys_of_their_runs_sorted_by_step(study, uri):
    found = read_curves(uri, study.key, {0: "key 0", 2: "key 2", 9: "key 9"}, ["train/loss", "val_loss"])

    assert found == {
        0: {"train/loss": [(1, 1.0), (2, 2.0), (3, 3.0)]},
        2: {"train/loss": [(1, 3.0), (2, 4.0), (3, 5.0)]},
    }


def test_what_cannot_be_read_is_no_curve(uri):
    assert read_curves("http://127.0.0.1:9", "key", {0: "key 0"}, ["train/loss"]) == {}
    assert read_curves(uri, "nobody", {0: "key 0"}, ["train/loss"]) == {}
