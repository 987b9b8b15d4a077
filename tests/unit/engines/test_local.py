"""Worker processes: what they are told and tell, and what becomes of their work when they die."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opttune.engines.engine import Done
from opttune.engines.inline import train_here
from opttune.engines.local import LocalEngine
from opttune.errors import InputError, MonitorError
from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome, StopReason
from opttune.space.sample import default_recipe
from opttune.training.attempt import Attempt
from opttune.training.workload import Workload
from tests.support.listeners import RecordingListener
from tests.support.search_models import Classifier, FailsAtOnce, Slow, loaders
from tests.support.searches import TINY, make_space

pytestmark = pytest.mark.slow
FIVE = Attempt(default_recipe(make_space(TINY)), "val_loss", 0, {"max_steps": 5})
GRACE_SECONDS = 120


class Process(Classifier):
    """Logs what the process is."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log_dict({"pid": float(os.getpid()), "threads": float(torch.get_num_threads())})
        self.log("cuda", float(os.environ.get("CUDA_VISIBLE_DEVICES") or -1))


class Kills(Slow):
    """Ends its own process in its fourth step, as often as `kills.txt` says."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        order = Path(os.environ["OPTTUNE_TEST_FOLDER"]) / "kills.txt"
        left = int(order.read_text())
        if self.trainer.global_step == 3 and left:
            order.write_text(str(left - 1))
            os.kill(os.getpid(), int(os.environ.get("OPTTUNE_TEST_SIGNAL", signal.SIGKILL)))
            time.sleep(60)
        return super().training_step(batch, batch_idx)


class Hoards(Classifier):
    """Keeps 600 megabytes more for each training."""

    kept: list[Any] = []  # noqa: RUF012

    def on_fit_start(self) -> None:
        self.kept.append(torch.ones(150_000_000))


@contextmanager
def engine_of(model: Any, folder: Path, workers: int = 1, **variables: str) -> Iterator[LocalEngine]:
    environments = [{"OPTTUNE_TEST_FOLDER": str(folder), **variables} for _ in range(workers)]
    with closing(LocalEngine(Workload(model, loaders), folder, environments)) as engine:
        yield engine
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".engine")]


def wait(engine: LocalEngine) -> Done:
    for _ in range(GRACE_SECONDS * 10):
        done = engine.next_done(0.1)
        if done is not None:
            return done
    raise TimeoutError("no attempt has ended")


def train(engine: LocalEngine, attempt: Attempt = FIVE, listener: RecordingListener | None = None) -> Outcome:
    engine.submit(3, attempt, listener or RecordingListener())
    done = wait(engine)
    assert done.job == 3
    assert isinstance(done.result, Outcome)
    return done.result


def test_a_worker_trains_as_this_process_would_and_reports_step_by_step(tmp_path: Path) -> None:
    listener, here = RecordingListener(), RecordingListener()
    expected = train_here(Workload(Classifier, loaders))(FIVE, here)
    with engine_of(Classifier, tmp_path) as engine:
        found = train(engine, replace(FIVE, checkpoint=tmp_path / "state.ckpt"), listener)
        again = train(engine)

    times = {"seconds": 0.0, "step_seconds": None}
    assert replace(found, **times) == replace(expected, **times)
    assert again.value == found.value
    assert listener.records == here.records
    assert listener.reports == here.reports
    assert torch.load(tmp_path / "state.ckpt", weights_only=True)["global_step"] == 5


@pytest.mark.usefixtures("warm")
def test_workers_train_at_the_same_time_each_with_its_own_environment(tmp_path: Path) -> None:
    listeners = [RecordingListener(), RecordingListener()]
    environments = [{"CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "1"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    with closing(LocalEngine(Workload(Process, loaders), tmp_path, environments)) as engine:
        for job, listener in enumerate(listeners):
            engine.submit(job, replace(FIVE, trainer={"max_steps": 5, "accelerator": "cpu"}), listener)
        assert {wait(engine).job, wait(engine).job} == {0, 1}
        assert engine.next_done(0.0) is None
    (first, second) = (next(values for _, values in listener.reports if "pid" in values) for listener in listeners)

    assert os.getpid() not in (first["pid"], second["pid"])
    assert first["pid"] != second["pid"]
    assert (first["cuda"], first["threads"], second["cuda"]) == (3.0, 1.0, 5.0)


@pytest.mark.usefixtures("warm")
def test_errors_come_back_as_what_they_are(tmp_path: Path) -> None:
    with engine_of(FailsAtOnce, tmp_path) as engine:
        failed = train(engine)
        engine.submit(0, replace(FIVE, monitor="val_lost"), RecordingListener())
    with engine_of(Classifier, tmp_path) as engine:
        engine.submit(0, replace(FIVE, monitor="val_lost"), RecordingListener())
        assert isinstance(wait(engine).result, MonitorError)

    assert failed.reason is StopReason.FAILED
    assert "training_step" in failed.traceback


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("kills", "number", "reason"),
    [(2, signal.SIGSEGV, StopReason.COMPLETED), (3, signal.SIGKILL, StopReason.OUT_OF_MEMORY)],
)
def test_a_dead_worker_is_replaced_and_its_attempt_begun_anew_twice(
    kills: int, number: signal.Signals, reason: StopReason, tmp_path: Path
) -> None:
    (tmp_path / "kills.txt").write_text(str(kills))
    listener = RecordingListener()
    with engine_of(Kills, tmp_path, OPTTUNE_TEST_SIGNAL=str(int(number))) as engine:
        outcome = train(engine, listener=listener)
        (tmp_path / "kills.txt").write_text("0")
        after = train(engine)

    assert outcome.reason is reason
    assert listener.step_numbers == ([1, 2, 3] * kills + [1, 2, 3, 4, 5] if kills < 3 else [1, 2, 3] * 3)
    assert number.name in outcome.message or kills < 3
    assert after.reason is StopReason.COMPLETED


@pytest.mark.usefixtures("warm")
def test_a_training_is_stopped_after_its_step_with_its_state_saved(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped.ckpt"

    class Presses(RecordingListener):
        def steps(self, records: list[StepRecord]) -> None:
            super().steps(records)
            engine.stop()

    with engine_of(Slow, tmp_path) as engine:
        listener = Presses()
        outcome = train(engine, replace(FIVE, trainer={"max_steps": 200}, stop_checkpoint=stopped), listener)

    assert outcome.reason is StopReason.INTERRUPTED
    assert 1 <= outcome.steps < 200
    assert torch.load(stopped, weights_only=True)["global_step"] == outcome.steps


def is_alive(pid: int) -> bool:
    try:
        # a zombie has ended as well
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def await_that(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 30
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def test_workers_end_at_once_when_the_engine_is_closed(tmp_path: Path) -> None:
    with engine_of(Slow, tmp_path, workers=2) as engine:
        engine.submit(0, replace(FIVE, trainer={"max_steps": 10_000}), RecordingListener())
        pids = [worker.pid for worker in engine._workers]
        engine.next_done(0.5)

    assert await_that(lambda: not any(map(is_alive, pids)))


@pytest.mark.usefixtures("warm")
def test_a_worker_that_has_grown_is_replaced(tmp_path: Path) -> None:
    with engine_of(Hoards, tmp_path) as engine:
        first = engine._workers[0].pid
        train(engine)
        kept = engine._workers[0].pid
        train(engine)
        second = engine._workers[0].pid
        outcome = train(engine)

    assert first == kept != second
    assert outcome.reason is StopReason.COMPLETED


def test_what_cannot_be_sent_is_told_before_anything_is_started(tmp_path: Path) -> None:
    class Locked(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(InputError, match="cannot be sent to a worker"):
        LocalEngine(Workload(Locked(), loaders), tmp_path, [{}])
    assert list(tmp_path.iterdir()) == []
