import os

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from opttune.tracking.server import Server, is_refusal
from opttune.tracking.study_run import open_study_run


@pytest.fixture
def server(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = open_study_run(tracking_uri=uri, study_name="study", spool_dir=tmp_path / "spool", run_id=None)
    run.close()
    return Server(uri)


def new_run(server):
    return server.client.create_run(server.experiment_id("other")).info.run_id


@pytest.mark.slow
def test_an_experiment_is_made_once_and_a_deleted_one_comes_back(server):
    first = server.experiment_id("mine")
    server.client.delete_experiment(first)
    assert server.experiment_id("mine") == first
    assert server.client.get_experiment(first).lifecycle_stage == "active"


@pytest.mark.slow
def test_a_run_is_found_by_its_id_and_by_its_key(server):
    run_id = new_run(server)
    server.client.set_tag(run_id, "opttune.key", "our key")
    assert server.find_run(run_id).info.run_id == run_id
    assert server.find_run("our key").info.run_id == run_id
    assert server.find_run("no such key") is None


@pytest.mark.slow
def test_a_deleted_run_is_not_found(server):
    run_id = new_run(server)
    server.client.delete_run(run_id)
    assert server.find_run(run_id) is None


@pytest.mark.slow
def test_a_run_ends_at_the_given_time_and_can_be_set_running_again(server):
    run_id = new_run(server)
    server.set_ended(run_id, "KILLED", 1234)
    info = server.client.get_run(run_id).info
    assert (info.status, info.end_time) == ("KILLED", 1234)

    server.set_running(run_id)
    assert server.client.get_run(run_id).info.status == "RUNNING"


@pytest.mark.slow
def test_the_environment_is_as_before(server):
    before = dict(os.environ)
    server.set_ended(new_run(server), "FINISHED", 1)
    assert dict(os.environ) == before


def test_a_server_that_is_not_there_is_an_error_at_once():
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        Server("http://127.0.0.1:9").check()


@pytest.mark.slow
def test_what_mlflow_will_never_take_is_told_from_an_outage(server):
    with pytest.raises(MlflowException) as refused:
        MlflowClient(server.tracking_uri).get_run("0" * 32)
    assert is_refusal(refused.value)
    assert not is_refusal(ConnectionError("gone"))
    assert not is_refusal(OSError("disk"))
