"""The baseline's curve as the user has it: what is read, and what is refused in one sentence."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from opttune.errors import InputError
from opttune.study.given_baseline import GivenBaseline, read_baseline
from tests.support.searches import make_database


def written(folder: Path, text: str) -> Path:
    path = folder / "curve.csv"
    path.write_text(text)
    return path


def test_a_csv_is_read_in_the_order_of_its_steps(tmp_path: Path) -> None:
    path = written(tmp_path, "step,value\n20,0.5\n10,0.8\n20,0.4\n")
    given = read_baseline(path, "val_loss", "")
    assert given == GivenBaseline(f"the file {path}", ((10, 0.8), (20, 0.4)))
    assert given.value == 0.4


def test_the_column_of_the_monitor_goes_first_and_rows_without_it_are_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, "epoch, step, val_loss, value\n0, 9, 0.8, 7\n0, 12, , 7\n1, 19, 0.5, 7\n")
    assert read_baseline(path, "val_loss", "").curve == ((9, 0.8), (19, 0.5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows"),
        ("step,acc\n1,2\n", r"has the columns step, acc, and needs step and value \(or val_loss\)"),
        ("value\n1\n", "needs step and value"),
        ("step,value\n1,high\n", "line 2 .* holds step '1' and value 'high'"),
        ("step,value\n1.5,1\n", "line 2"),
        ("step,value\n1,0.5\n2,nan\n", "has the value nan at step 2; the last value must be a finite number"),
        ("step,value\n1.5,0.5\n", "which must be a whole number"),
        ("step,value\n1,\n", "has no value"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_baseline(written(tmp_path, text), "val_loss", "")


def test_a_missing_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the file .*none\.csv cannot be read"):
        read_baseline(tmp_path / "none.csv", "val_loss", "")


def test_a_run_of_mlflow_is_read_by_its_metric(tmp_path: Path) -> None:
    uri = make_database(tmp_path)
    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("mine")).info.run_id
    for step, value in ((9, 0.8), (19, 0.5)):
        client.log_metric(run_id, "val_loss", value, step=step)
        client.log_metric(run_id, "loss/val", value / 10, step=step)
    given = read_baseline(run_id, "val_loss", uri)
    assert given.source == f"val_loss of the MLflow run {run_id}"
    assert given.curve == ((9, 0.8), (19, 0.5))
    assert read_baseline(f"{run_id}:loss/val", "val_loss", uri).value == 0.05
    with pytest.raises(InputError, match=r"has no metric 'val_acc'; it has loss/val, val_loss\."):
        read_baseline(run_id, "val_acc", uri)
    with pytest.raises(InputError, match="there is no run 'abc' in MLflow"):
        read_baseline("abc", "val_loss", uri)


def test_no_database_is_made_to_look_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no MLflow database"):
        read_baseline("abc", "val_loss", f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_curve_of_the_full_length_may_count_from_0_as_loggers_do() -> None:
    given = GivenBaseline("x", ((9, 0.8), (19, 0.5)))
    assert given.of_length(19) is given
    assert given.of_length(20).curve == ((10, 0.8), (20, 0.5))
    for other in (18, 21, 1_000):
        with pytest.raises(InputError, match=f"x ends at step 19, and a full training has {other}: a schedule follows"):
            given.of_length(other)


def test_undefined_values_before_the_end_are_passed_over_and_whole_floats_are_steps(tmp_path: Path) -> None:
    # as pandas writes a column with gaps
    (file := tmp_path / "curve.csv").write_text("step,value\n100.0,nan\n200.0,0.9\n300.0,inf\n2000.0,0.5\n")
    assert read_baseline(file, "val_loss", "").curve == ((200, 0.9), (2000, 0.5))
