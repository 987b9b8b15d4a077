import math
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from opttune.guard.steps import StepRecord
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.tracking.study_run import open_study_run
from opttune.tracking.training_log import TrainingLog, short_name, step_metrics
from tests.support.records import make_outcome
from tests.support.searches import Tracked, make_database

RECIPE = Recipe(Part("adamw", {"lr": 3e-4}))
TRIAL = TrainingJob(RECIPE, 0, trial=0)
BASELINE = TrainingJob(None, 0, Role.BASELINE, label="SGD(lr=0.0001)")
REPLICATE = TrainingJob(RECIPE, 1, Role.REPLICATE, trial=3)
CONFIRMATION = TrainingJob(RECIPE, 2, Role.CONFIRMATION, label="adamw 3e-4")
OWN = TrainingJob(None, 2, Role.CONFIRMATION, label="your optimizer")


@pytest.fixture
def tracked(tmp_path: Path) -> Tracked:
    uri = make_database(tmp_path)
    parent = open_study_run(tracking_uri=uri, study_name="s", spool_dir=tmp_path / "spool", run_id=None)
    for job in (BASELINE, REPLICATE, CONFIRMATION, OWN):
        log = TrainingLog(parent, job, 2, f"key of {job.role} {job.label}")
        log.steps([StepRecord(1, 2.5, 0.1, None)])
        log.metrics(1, {"val_loss": 2.25})
        log.end(Outcome(StopReason.COMPLETED, 2.25, 1, 2, 1.0), seconds=3.0)
    first = TrainingLog(parent, TRIAL, 2, "key of trial 0")
    first.steps([StepRecord(1, 2.0, 0.1, 3.0)])
    first.end(Outcome(StopReason.INTERRUPTED, None, 1, 2, 1.0))
    resumed = TrainingLog(parent, TRIAL, 2, "key of trial 0", is_resumed=True)
    resumed.steps([StepRecord(1, 2.0, 0.1, 3.0), StepRecord(2, math.nan, 0.2, 4.0)])
    resumed.metrics(2, {"val_loss": 1.5})
    resumed.end(make_outcome(1.5, total_steps=2))
    parent.end()
    parent.close()
    return Tracked(tmp_path)


def make_run(tracked: Tracked, name: str) -> Run:
    (run,) = (run for run in tracked.runs if run.info.run_name == name)
    return run


def own_tags(run: Run) -> dict[str, str]:
    names = ("role", "trial", "seed", "candidate")
    return {name: run.data.tags[f"opttune.{name}"] for name in names if f"opttune.{name}" in run.data.tags}


RECIPE_PARAMS = {"optimizer": "adamw", "lr": "0.0003", "schedule": "constant", "log10_lr": str(math.log10(3e-4))}


@pytest.mark.parametrize(
    ("name", "tags", "params"),
    [
        ("#0 adamw 3.0e-4", {"role": "trial", "trial": "0"}, RECIPE_PARAMS),
        (
            "baseline",
            {"role": "baseline", "seed": "0", "candidate": "SGD(lr=0.0001)"},
            {"seed": "0", "optimizer": "SGD(lr=0.0001)"},
        ),
        ("#3 s1 adamw 3.0e-4", {"role": "replicate", "trial": "3", "seed": "1"}, {"seed": "1", **RECIPE_PARAMS}),
        (
            "s2 adamw 3.0e-4",
            {"role": "confirmation", "seed": "2", "candidate": "adamw 3e-4"},
            {"seed": "2", **RECIPE_PARAMS},
        ),
        (
            "s2 your optimizer",
            {"role": "confirmation", "seed": "2", "candidate": "your optimizer"},
            {"seed": "2", "optimizer": "your optimizer"},
        ),
    ],
)
def test_each_role_has_a_separate_run_with_its_name_tags_and_params(
    tracked: Tracked, name: str, tags: dict[str, str], params: dict[str, str]
) -> None:
    run = make_run(tracked, name)

    assert own_tags(run) == tags
    assert params.items() <= run.data.params.items()
    assert ("seed" in run.data.params) == ("seed" in params)
    assert run.data.tags["mlflow.parentRunId"] == tracked.parent.info.run_id
    assert run.info.status == "FINISHED"


def test_the_baseline_has_its_curves_and_cost_in_its_run_and_none_in_the_parent(tracked: Tracked) -> None:
    run = make_run(tracked, "baseline")

    assert tracked.curve(run, "train/loss") == [(1, 2.5)]
    assert tracked.curve(run, "val_loss") == [(1, 2.25)]
    assert run.data.metrics["cost/seconds"] == 3.0
    assert tracked.parent.data.metrics == {}


def test_a_resumed_trial_continues_in_its_run_and_writes_no_step_twice(tracked: Tracked) -> None:
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
    assert short_name("#3", Recipe(Part("sgd", {"lr": lr}))) == f"#3 sgd {shown}"


def test_a_name_that_is_ours_for_every_step_is_not_written_twice(tmp_path: Path) -> None:
    uri = make_database(tmp_path)
    run = open_study_run(tracking_uri=uri, study_name="study", spool_dir=tmp_path / "spool", run_id=None)
    log = TrainingLog(run, TRIAL, 10, "key")
    log.steps([StepRecord(1, 0.5, 0.1, None)])
    log.metrics(1, {"train/loss": 0.5, "val_loss": 0.4})
    log.end(make_outcome(0.4, total_steps=1))
    run_id = run.writer.find_run_id("key")
    run.close()

    client = MlflowClient(uri)
    assert len(client.get_metric_history(run_id, "train/loss")) == 1
    assert len(client.get_metric_history(run_id, "val_loss")) == 1
