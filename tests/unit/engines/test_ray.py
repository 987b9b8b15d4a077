"""Trainings on a Ray cluster of two nodes: with a folder that both see and without, and with a node lost."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opttune.engines.engine import Done
from opttune.errors import InputError
from opttune.outcome import Outcome, StopReason
from opttune.space.sample import default_recipe
from opttune.training.attempt import Attempt, run_attempt
from opttune.training.stop import NEVER
from opttune.training.workload import Workload
from tests.support.listeners import RecordingListener
from tests.support.search_models import Classifier, Slow, loaders
from tests.support.searches import MODULES, TINY, Tracked, make_space, run_search

pytest.importorskip("ray", reason="Ray is not installed (pip install 'opttune[ray]')")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
FIVE = Attempt(default_recipe(make_space(TINY)), "val_loss", 0, {"max_steps": 5, "accelerator": "cpu"})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    # starting it in this process takes SIGTERM over, and does not give it back
    before = signal.getsignal(signal.SIGTERM)
    nodes = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27}
    )
    nodes.add_node(num_cpus=1, object_store_memory=2**27)
    signal.signal(signal.SIGTERM, before)
    yield nodes
    nodes.shutdown()


def wait(engine: Any) -> Done:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        done = engine.next_done(0.2)
        if done is not None:
            assert isinstance(done, Done)
            return done
    raise TimeoutError("no attempt has ended")


@pytest.mark.parametrize("shares_folder", [True, False])
def test_attempts_are_trained_reported_paused_and_resumed(cluster: Any, shares_folder: bool, tmp_path: Path) -> None:
    from opttune.engines.ray import RayEngine

    workload = Workload(Classifier, loaders, f"{MODULES}:Classifier", f"{MODULES}:loaders")
    rung, end, listener = tmp_path / "states" / "rung.ckpt", tmp_path / "end.ckpt", RecordingListener()
    with closing(RayEngine(workload, tmp_path, 2, {}, cluster.address, shares_folder)) as engine:
        engine.submit(7, replace(FIVE, until_step=3, checkpoint=rung), listener)
        paused = wait(engine)
        engine.submit(8, replace(FIVE, resume_from=rung, checkpoint=end), listener)
        done = wait(engine)
    here = RecordingListener()
    expected = run_attempt(FIVE, workload, here, NEVER)

    assert (paused.job, done.job) == (7, 8)
    assert isinstance(paused.result, Outcome)
    assert isinstance(done.result, Outcome)
    assert paused.result.reason is StopReason.PAUSED
    assert done.result.value == expected.value
    assert listener.records == here.records
    assert torch.load(end, weights_only=True)["global_step"] == 5
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".engine")]


def test_a_training_is_stopped_after_its_step_with_its_state_saved(cluster: Any, tmp_path: Path) -> None:
    from opttune.engines.ray import RayEngine

    stopped, listener = tmp_path / "stopped.ckpt", RecordingListener()
    attempt = replace(FIVE, trainer={"max_steps": 5000}, stop_checkpoint=stopped)
    with closing(RayEngine(Workload(Slow, loaders), tmp_path, 1, {}, cluster.address)) as engine:
        engine.submit(0, attempt, listener)
        while not listener.records:
            assert engine.next_done(0.2) is None
        engine.stop()
        done = wait(engine)

    assert isinstance(done.result, Outcome)
    assert done.result.reason is StopReason.INTERRUPTED
    assert torch.load(stopped, weights_only=True)["global_step"] == done.result.steps


def test_a_search_over_two_nodes_ends_complete_though_one_is_lost(cluster: Any, tmp_path: Path) -> None:
    lost = cluster.worker_nodes.copy().pop()

    def lose_a_node() -> None:
        cluster.remove_node(lost, allow_graceful=False)

    timer = threading.Timer(25.0, lose_a_node)
    timer.start()
    try:
        found = run_search(
            tmp_path, Slow, data=loaders, max_steps=60, budget=20, trials=9, baseline=False, workers=2, engine="ray",
            ray_address=cluster.address,
        )  # fmt: skip
    finally:
        timer.join()
    tracked = Tracked(tmp_path)

    assert len(found.trials) == 9
    assert set(found.trials["state"]) <= {"complete", "pruned"}
    assert set(found.trials["reason"]) <= {"completed", "outranked"}
    assert "RUNNING" not in tracked.states
    for run, steps in zip(tracked.children, found.trials["steps"], strict=True):
        assert [step for step, _ in tracked.curve(run, "train/loss")] == list(range(1, steps + 1))


def test_without_an_address_a_cluster_is_started_here_and_lives_until_the_engine_is_closed(tmp_path: Path) -> None:
    import ray

    from opttune.engines.ray import RayEngine

    with closing(RayEngine(Workload(Classifier, loaders), tmp_path, 1, {})) as engine:
        engine.submit(0, FIVE, RecordingListener())
        done = wait(engine)

    assert isinstance(done.result, Outcome)
    assert done.result.reason is StopReason.COMPLETED
    assert not ray.is_initialized()


def test_where_no_cluster_answers_it_says_so_soon(tmp_path: Path) -> None:
    from opttune.engines.ray import connect

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(InputError, match=f"no Ray cluster answers at {address}.*--ray-address"):
        connect(address, 1, threading.Event())

    assert time.monotonic() - started < 10
