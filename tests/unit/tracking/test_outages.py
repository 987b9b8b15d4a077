"""Searches whose MLflow goes away: the training goes on, and afterwards every point is there exactly once."""

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import opttune
from opttune.study.sync import sync_studies
from opttune.tracking.settings import Tracking
from opttune.tracking.study_run import open_study_run
from tests.support.records import make_outcome
from tests.support.search_models import Classifier, loaders
from tests.support.searches import MODULES, TINY, make_space, run_command, write_space
from tests.unit.tracking.conftest import MlflowServer

pytestmark = pytest.mark.slow

STEPS = 60


def steps_of(client: MlflowClient, run: Any, name: str = "train/loss") -> list[int]:
    return [point.step for point in client.get_metric_history(run.info.run_id, name)]


def trials_of(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("opttune")
    found = client.search_runs([experiment.experiment_id], "tags.`opttune.role` = 'trial'")
    return sorted(found, key=lambda run: int(run.data.tags["opttune.trial"]))


def assert_whole(client: MlflowClient, steps: list[int]) -> None:
    trials = trials_of(client)
    assert len(trials) == len(steps)
    for run, count in zip(trials, steps, strict=True):
        for name in ("train/loss", "optim/lr", "optim/grad_norm"):
            assert steps_of(client, run, name) == list(range(1, count + 1))
    experiment = client.get_experiment_by_name("opttune")
    states = [run.info.status for run in client.search_runs([experiment.experiment_id])]
    assert "RUNNING" not in states


def test_a_server_killed_in_mid_search_and_started_again_holds_every_point_once(
    server: MlflowServer, client: MlflowClient, tmp_path: Path
) -> None:
    server.start()
    seen = 0
    back = threading.Thread(target=server.start)

    class Watched(Classifier):
        def on_train_batch_end(self, *args: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == STEPS + 20:
                server.kill()
            elif seen == STEPS + 60:
                back.start()

    result = opttune.search(
        Watched, loaders, space=make_space(TINY), max_steps=STEPS, budget=6, study="s", tracking_uri=server.uri,
        out_dir=tmp_path / "out", progress=False, tracking=Tracking(report=False),
    )  # fmt: skip
    back.join()
    # what the server came back too late for waits for whoever asks next
    for left in sync_studies([str(tmp_path / "out")], None, server.uri, 120):
        assert (left.waiting, left.problem) == (0, "")

    assert seen > STEPS + 60
    assert result.best_recipe is not None
    assert_whole(client, list(result.trials["steps"]))


def test_without_a_server_the_search_is_done_and_opttune_sync_delivers_later(
    server: MlflowServer, client: MlflowClient, tmp_path: Path
) -> None:
    arguments = ["--space", write_space(tmp_path, TINY), "--max-steps", "20", "--budget", "4", "--study", "s"]
    done = run_command(
        tmp_path, "search", f"{MODULES}:Classifier", f"{MODULES}:loaders", *arguments, "--tracking-uri", server.uri,
        "--no-report",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" in done.stdout
    assert "entries wait in opttune_runs/s/spool" in done.stdout

    server.start()
    delivered = run_command(tmp_path, "sync")
    assert (delivered.returncode, delivered.stderr) == (0, "")
    assert "entries delivered" in delivered.stdout
    assert_whole(client, [20, 20, 20])
    assert not (tmp_path / "opttune_runs" / "s" / "spool").exists()
    assert run_command(tmp_path, "sync").stdout == "nothing waits for delivery\n"


def test_ten_thousand_steps_of_three_metrics_are_there_whole_in_bounded_memory(
    uri: str, client: MlflowClient, tmp_path: Path
) -> None:
    most, count = 30_000_000, 10_000
    study = open_study_run(tracking_uri=uri, study_name="s", spool_dir=tmp_path / "spool", run_id=None, thins=False)
    child = study.child("#0", tags={"opttune.role": "trial", "opttune.trial": "0"})
    tracemalloc.start()
    try:
        # as fast as they can be given: faster than MLflow takes them
        for step in range(1, count + 1):
            child.log(step, {"train/loss": 1 / step, "optim/lr": 0.1, "optim/grad_norm": float(step)})
        child.end(make_outcome(0.5, total_steps=count))
        study.end()
        assert study.flush(300)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        study.close()

    assert peak < most
    assert_whole(client, [count])
