import pytest

from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.tracking.study_run import open_study_run
from opttune.tracking.thinning import Thinning
from opttune.tracking.trial_run import attach_trial_run


@pytest.fixture
def study(uri, tmp_path):
    study = open_study_run(tracking_uri=uri, study_name="net", spool_dir=tmp_path / "spool", run_id=None)
    yield study
    study.close()


@pytest.mark.parametrize(
    ("outcome", "status", "state", "stopped"),
    [
        (Outcome(StopReason.COMPLETED, 0.25, 10, 10, 1.0), "FINISHED", "complete", None),
        (Outcome(StopReason.EARLY_STOPPED, 0.25, 7, 10, 1.0, "patience"), "FINISHED", "complete", "7"),
        (Outcome(StopReason.NON_FINITE, None, 3, 10, 1.0, "loss is nan"), "KILLED", "diverged", "3"),
        (Outcome(StopReason.BLOW_UP, None, 3, 10, 1.0, "loss rose"), "KILLED", "diverged", "3"),
        (Outcome(StopReason.PAUSED, 0.25, 3, 10, 1.0, "paused"), "KILLED", "paused", "3"),
        (Outcome(StopReason.OUTRANKED, 0.25, 3, 10, 1.0, "others"), "KILLED", "pruned", "3"),
        (Outcome(StopReason.PRUNED, None, 3, 10, 1.0), "KILLED", "pruned", "3"),
        (Outcome(StopReason.INTERRUPTED, None, 3, 10, 1.0), "KILLED", "interrupted", "3"),
        (Outcome(StopReason.FAILED, None, 3, 10, 1.0, "boom", "Traceback: boom"), "FAILED", "failed", "3"),
    ],
)
def test_how_a_trial_ended_can_be_read(study, client, outcome, status, state, stopped):
    child = study.child("#0")
    child.end(outcome)
    assert study.flush()
    run = client.get_run(child.run_id)
    tags = run.data.tags
    assert run.info.status == status
    assert run.info.end_time >= run.info.start_time
    assert (tags["opttune.state"], tags["opttune.reason"]) == (state, str(outcome.reason))
    assert tags["opttune.steps"] == str(outcome.steps)
    assert tags.get("opttune.stopped_at_step") == stopped
    assert tags.get("opttune.message", "") == outcome.message
    assert run.data.metrics == ({"objective": outcome.value} if outcome.reason.counts else {})
    files = [file.path for file in client.list_artifacts(child.run_id)]
    assert files == (["traceback.txt"] if outcome.traceback else [])


def test_the_params_are_the_recipe(study, client):
    recipe = Recipe(Part("adamw", {"lr": 3e-4, "betas": (0.9, 0.95)}), Part("cosine", {"warmup_fraction": 0.05}))
    child = study.child("#0")
    child.params(recipe.flat())
    assert study.flush()
    expected = {name: str(value) for name, value in recipe.flat().items()}
    assert client.get_run(child.run_id).data.params == expected


def test_long_curves_are_thinned_and_validation_is_not(study, client):
    child = study.child("#0", thinning=Thinning(5000))
    for step in range(1, 4322):
        child.log(step, {"train/loss": 1 / step, "optim/lr": 0.1})
        if step % 333 == 0:
            child.log(step, {"val_loss": 1 / step}, always=True)
    child.end(Outcome(StopReason.BLOW_UP, None, 4321, 5000, 1.0, "loss rose"))
    assert study.flush()
    steps = [point.step for point in client.get_metric_history(child.run_id, "train/loss")]
    assert len(steps) < 1000
    assert steps[:250] == list(range(1, 251))
    # the point where it stopped is what one looks for
    assert steps[-1] == 4321
    assert len(client.get_metric_history(child.run_id, "val_loss")) == 4321 // 333


def test_a_run_of_the_users_own_is_written_into(uri, client, tmp_path):
    experiment = client.create_experiment("theirs", artifact_location=(tmp_path / "files").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_param(run_id, "lr", "0.5")
    trial = attach_trial_run(client, run_id)
    assert trial.run_id == run_id
    trial.params({"lr": 0.1, "optimizer": "adamw"})
    trial.log(1, {"train/loss": 1.0})
    trial.end(Outcome(StopReason.BLOW_UP, None, 1, 10, 1.0, "loss rose"))
    trial.close()
    assert trial.writer.problem == ""
    (run,) = client.search_runs([experiment])
    assert run.info.status == "KILLED"
    assert run.data.params == {"lr": "0.5", "opttune/lr": "0.1", "optimizer": "adamw"}
    assert run.data.metrics == {"train/loss": 1.0}
    assert run.data.tags["opttune.reason"] == "blow_up"
