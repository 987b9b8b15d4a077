import math
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from opttune.guard.steps import StepRecord
from opttune.outcome import StopReason
from opttune.recipe import Part, Recipe
from opttune.tracking.study_run import open_study_run
from opttune.tracking.training_log import ParentLog, TrialLog, run_name, step_metrics
from tests.support.records import make_outcome
from tests.support.searches import Tracked, make_database

RECIPE = Recipe(Part("adamw", {"lr": 3e-4}))


@pytest.fixture
def tracked(tmp_path: Path) -> Tracked:
    uri = make_database(tmp_path)
    parent = open_study_run(tracking_uri=uri, study_name="s", spool_dir=tmp_path / "spool", run_id=None)
    ParentLog(parent, "baseline").steps([StepRecord(1, 2.5, 0.1, None)])
    ParentLog(parent, "baseline").metrics(1, {"val_loss": 2.25})
    first = TrialLog(parent, 0, RECIPE, 2, "key of trial 0")
    first.steps([StepRecord(1, 2.0, 0.1, 3.0)])
    first.end(make_outcome(None, StopReason.INTERRUPTED, steps=1, total_steps=2))
    resumed = TrialLog(parent, 0, RECIPE, 2, "key of trial 0", is_resumed=True)
    resumed.steps([StepRecord(1, 2.0, 0.1, 3.0), StepRecord(2, math.nan, 0.2, 4.0)])
    resumed.metrics(2, {"val_loss": 1.5})
    resumed.end(make_outcome(1.5, total_steps=2))
    parent.end()
    parent.close()
    return Tracked(tmp_path)


def test_the_baseline_stands_in_the_parent_under_its_own_names(tracked: Tracked) -> None:
    assert tracked.parent.data.metrics == {
        "baseline/train/loss": 2.5,
        "baseline/optim/lr": 0.1,
        "baseline/val_loss": 2.25,
    }


def test_a_resumed_trial_goes_on_in_its_run_and_writes_no_step_twice(tracked: Tracked) -> None:
    (run,) = tracked.children

    assert run.info.status == "FINISHED"
    assert run.data.tags["opttune.state"] == "complete"
    assert "opttune.stopped_at_step" not in run.data.tags
    assert tracked.curve(run, "optim/lr") == [(1, 0.1), (2, 0.2)]
    assert tracked.curve(run, "val_loss") == [(2, 1.5)]


def test_what_a_step_does_not_know_is_left_out() -> None:
    assert step_metrics(StepRecord(1, None, 0.1, None)) == {"optim/lr": 0.1}


@pytest.mark.parametrize(("lr", "shown"), [(3.14e-4, "3.1e-4"), (10.0, "1.0e+1"), (1e-12, "1.0e-12")])
def test_a_runs_name_is_short(lr: float, shown: str) -> None:
    assert run_name(3, Recipe(Part("sgd", {"lr": lr}))) == f"#3 sgd {shown}"


def test_a_name_that_is_ours_for_every_step_is_not_written_twice(tmp_path: Path) -> None:
    uri = make_database(tmp_path)
    run = open_study_run(tracking_uri=uri, study_name="study", spool_dir=tmp_path / "spool", run_id=None)
    log = TrialLog(run, 0, RECIPE, 10, "key")
    log.steps([StepRecord(1, 0.5, 0.1, None)])
    log.metrics(1, {"train/loss": 0.5, "val_loss": 0.4})
    log.end(make_outcome(0.4, total_steps=1))
    run_id = run.writer.find_run_id("key")
    run.close()

    client = MlflowClient(uri)
    assert len(client.get_metric_history(run_id, "train/loss")) == 1
    assert len(client.get_metric_history(run_id, "val_loss")) == 1
