import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opttune.engines import worker_process
from opttune.engines.worker_process import (
    WorkerProcess,
    end_early,
    import_path,
    share_threads,
    start_early,
    take_worker,
)


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    worker = WorkerProcess()
    yield worker
    worker.end()


def test_it_ends_with_all_it_has_started_and_says_how(worker: WorkerProcess) -> None:
    assert os.getpgid(worker.pid) == worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        list(worker.messages())

    assert worker.exit_words == "was killed by signal 9 (SIGKILL)"
    assert worker.was_killed
    # commands to the dead are lost without a word
    worker.train(Path("nowhere"))
    worker.stop()


def test_workers_that_were_started_early_are_taken_first_and_the_others_are_ended() -> None:
    start_early(2)
    first, second = worker_process._EARLY
    taken = take_worker({"A": "b"})
    end_early()
    fresh = take_worker({})

    assert taken is first
    assert second.was_killed
    assert fresh not in (first, second)
    for one in (taken, fresh):
        one.end()


@pytest.mark.slow
def test_it_ends_by_itself_when_its_parent_is_gone(worker: WorkerProcess) -> None:
    stdin = worker._process.stdin
    assert stdin is not None
    stdin.close()
    until = time.monotonic() + 120
    while worker._process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)

    assert worker.was_killed


def test_threads_are_shared_between_workers_unless_the_user_has_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    shared = [share_threads(workers) for workers in (1, 2, 3, 64)]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")

    assert shared == [{}, {"OMP_NUM_THREADS": "4"}, {"OMP_NUM_THREADS": "2"}, {"OMP_NUM_THREADS": "1"}]
    assert share_threads(4) == {}


def test_a_worker_imports_the_opttune_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(Path(worker_process.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    added = import_path()
    monkeypatch.setenv("PYTHONPATH", f"{own}{os.pathsep}/theirs")

    assert added == f"{own}{os.pathsep}/theirs" == import_path()
