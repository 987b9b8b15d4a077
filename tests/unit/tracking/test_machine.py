"""Real readings of this machine, in a real database."""

import subprocess
import sys
import time

import pytest

from opttune.errors import InputError
from opttune.tracking.machine import MachineMetrics
from opttune.tracking.study_run import open_study_run
from tests.support.records import make_outcome

psutil = pytest.importorskip("psutil")
DONE = make_outcome(0.5, total_steps=10)
LOAD = "system/cpu_utilization_percentage"
MEMORY = "system/system_memory_usage_megabytes"


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")


def open_run(uri, tmp_path, **settings):
    return open_study_run(
        tracking_uri=uri, study_name="s", spool_dir=tmp_path / "spool", run_id=None, reads_machine=True, **settings
    )


def points(client, run_id, name):
    return client.get_metric_history(run_id, name)


@pytest.mark.slow
def test_the_search_and_the_trials_under_way_have_the_load(uri, tmp_path, client, often):
    study = open_run(uri, tmp_path)
    trains, waits = study.child("#0"), study.child("#1")
    trains.training_begins()
    time.sleep(0.5)
    trains.training_ends()
    study.flush()
    before = len(points(client, trains.run_id, LOAD))
    time.sleep(0.3)
    trains.end(DONE)
    waits.end(DONE)
    study.end()
    study.close()

    assert 3 <= before == len(points(client, trains.run_id, LOAD)) < len(points(client, study.run_id, LOAD))
    assert points(client, waits.run_id, LOAD) == []
    assert all(0 <= point.value <= 100 for point in points(client, study.run_id, LOAD))
    used = points(client, study.run_id, MEMORY)[-1].value
    assert used == pytest.approx(psutil.virtual_memory().used / 1e6, rel=0.5)


def test_a_short_training_has_one_reading(uri, tmp_path, client):
    study = open_run(uri, tmp_path)
    trial = study.child("#0")
    trial.training_begins()
    trial.end(DONE)
    study.end()
    study.close()
    assert [len(points(client, run.run_id, LOAD)) for run in (trial, study)] == [1, 1]


def test_trials_elsewhere_do_not_have_the_load_of_this_machine(uri, tmp_path, client, often):
    study = open_run(uri, tmp_path, trains_here=False)
    trial = study.child("#0")
    trial.training_begins()
    trial.end(DONE)
    study.end()
    study.close()
    assert points(client, trial.run_id, LOAD) == []
    assert points(client, study.run_id, LOAD)


def test_a_resumed_trial_has_readings_of_both_parts_in_its_run(uri, tmp_path, client):
    study = open_run(uri, tmp_path)
    trial = study.child("#0", key="mine")
    trial.training_begins()
    trial.end(DONE)
    trial.reopen()
    time.sleep(0.01)  # a point of the same millisecond is the same point
    trial.training_begins()
    trial.end(DONE)
    study.close()
    assert len(points(client, trial.run_id, LOAD)) == 2


def test_an_interval_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "often")
    with pytest.raises(InputError, match="SAMPLING_INTERVAL must be a number of seconds, got 'often'"):
        MachineMetrics(None)


@pytest.mark.slow
def test_what_is_missing_is_named_with_what_to_install():
    code = (
        "import sys; sys.modules['psutil'] = None\n"
        "from opttune.errors import InputError\n"
        "from opttune.tracking.machine import MachineMetrics, check_machine_metrics\n"
        "for ask in (check_machine_metrics, lambda: MachineMetrics(None)):\n"
        "    try: ask()\n"
        "    except InputError as err: print(err)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.count("need the package psutil: pip install 'opttune[system]'") == 2
