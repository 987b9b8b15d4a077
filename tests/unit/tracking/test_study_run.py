import subprocess
import sys
import time

import pytest
from mlflow.tracking import MlflowClient

from opttune.outcome import StopReason
from opttune.tracking.study_run import open_study_run, sync
from tests.support.records import make_outcome

DONE = make_outcome(0.5, total_steps=10)


@pytest.fixture
def study(uri, tmp_path):
    study = open_study_run(tracking_uri=uri, study_name="net-wide", spool_dir=tmp_path / "spool", run_id=None)
    yield study
    study.close()


def trial_tags(number):
    return {"opttune.role": "trial", "opttune.trial": str(number)}


def reopened(uri, tmp_path, run_id):
    return open_study_run(tracking_uri=uri, study_name="net-wide", spool_dir=tmp_path / "spool", run_id=run_id)


def test_a_study_is_one_parent_with_a_child_for_each_trial(study, client):
    children = [study.child(f"#{number} adamw", tags=trial_tags(number)) for number in range(3)]
    for child in children:
        child.end(DONE)
    study.params({"seed": 0})
    study.tags({"git": "abc"})
    study.metrics([("best", 0.5, 10, 1000)])
    study.note("# The answer")
    study.end()
    assert study.flush()
    experiment = client.get_experiment_by_name("opttune")
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 4
    parent = runs[study.run_id]
    assert parent.info.run_name == "net-wide"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["opttune.role"] == "study"
    assert parent.data.tags["opttune.study"] == "net-wide"
    assert parent.data.tags["mlflow.note.content"] == "# The answer"
    assert (parent.data.params, parent.data.metrics) == ({"seed": "0"}, {"best": 0.5})
    for number, child in enumerate(children):
        tags = runs[child.run_id].data.tags
        assert tags["mlflow.parentRunId"] == study.run_id
        assert (tags["opttune.trial"], tags["opttune.study"]) == (str(number), "net-wide")
        assert runs[child.run_id].info.run_name == f"#{number} adamw"


def test_the_experiment_comes_from_the_environment(uri, tmp_path, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    study = reopened(uri, tmp_path, None)
    study.close()
    experiment = client.get_experiment(client.get_run(study.run_id).info.experiment_id)
    assert experiment.name == "mine"


def test_a_study_continues_in_its_run_and_a_trial_in_its_own(study, uri, tmp_path, client):
    child = study.child("#0", tags=trial_tags(0))
    child.log(1, {"train/loss": 1.0})
    child.end(make_outcome(None, StopReason.INTERRUPTED, steps=1, total_steps=10))
    study.end("KILLED")
    study.close()
    again = reopened(uri, tmp_path, study.run_id)
    same = again.child("#0", child.key, tags=trial_tags(0))
    same.reopen()
    same.log(2, {"train/loss": 0.5})
    same.end(DONE)
    assert again.flush()
    assert (again.run_id, same.run_id) == (study.run_id, child.run_id)
    assert client.get_run(study.run_id).info.status == "RUNNING"
    assert len(client.get_metric_history(child.run_id, "train/loss")) == 2
    assert client.get_run(child.run_id).info.status == "FINISHED"
    again.end()
    again.close()
    assert len(client.search_runs([client.get_run(study.run_id).info.experiment_id])) == 2


def test_a_parent_that_was_deleted_is_made_anew(study, uri, tmp_path, client):
    client.delete_run(study.run_id)
    again = reopened(uri, tmp_path, study.run_id)
    again.close()
    assert again.run_id is not None
    assert again.run_id != study.run_id
    assert client.get_run(again.run_id).data.tags["opttune.study"] == "net-wide"


@pytest.mark.slow
def test_a_database_that_cannot_be_opened_does_not_hold_up_the_search(tmp_path):
    (tmp_path / "file").touch()
    start = time.monotonic()
    study = reopened(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path, None)
    study.child("#0", tags=trial_tags(0)).end(DONE)
    study.close(0.5)
    assert time.monotonic() - start < 10
    assert study.run_id is None
    assert "5 entries wait" in study.writer.problem


@pytest.mark.slow
def test_a_search_without_a_server_is_delivered_later(server, tmp_path, client):
    start = time.monotonic()
    study = open_study_run(tracking_uri=server.uri, study_name="net", spool_dir=tmp_path / "spool", run_id=None)
    child = study.child("#0", tags=trial_tags(0))
    for step in range(1, 1001):
        child.log(step, {"train/loss": 1 / step})
    child.params({"lr": 0.1})
    child.end(DONE)
    study.end()
    study.close(1.0)
    assert time.monotonic() - start < 20
    assert study.run_id is None
    assert study.writer.undelivered == 1007
    server.start()
    writer = sync(server.uri, tmp_path / "spool")
    assert (writer.undelivered, writer.problem) == (0, "")
    (run,) = client.search_runs(
        [client.get_experiment_by_name("opttune").experiment_id], filter_string="tags.`opttune.role` = 'trial'"
    )
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == list(range(1, 1001))
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1"})
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"


_OPEN = """
import sys
from pathlib import Path
from opttune.tracking.study_run import open_study_run
study = open_study_run(
    tracking_uri="sqlite:///mlflow.db", study_name=sys.argv[1], spool_dir=Path("spool", sys.argv[1]), run_id=None)
child = study.child("#0", tags={"opttune.role": "trial", "opttune.trial": "0"})
study.end()
study.close(60)
print(study.run_id)
assert not study.writer.problem, study.writer.problem
"""


@pytest.mark.slow
def test_two_processes_may_set_up_the_database_at_once_and_say_nothing(tmp_path, script_env):
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "default", "-c", _OPEN, name],
            cwd=tmp_path,
            env=script_env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    run_ids = set()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        run_ids.add(out.strip())
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert run_ids < {run.info.run_id for run in runs}
    assert len(runs) == 4
    # as `mlflow ui` with no argument expects it
    assert not (tmp_path / "spool" / "one").exists() or list((tmp_path / "spool" / "one").iterdir()) == []
