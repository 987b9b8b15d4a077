import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from opttune.tracking.operations import Kind, Operation
from opttune.tracking.spool import Spool
from opttune.tracking.writer import TrackingWriter

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture
def writer_to(tmp_path):
    """Makes writers on one spool folder, and closes them after the test."""
    with ExitStack() as stack:

        def make(uri, **settings):
            writer = TrackingWriter(uri, tmp_path / "spool", flush_seconds=0.1, **settings)
            stack.callback(writer.close, 0.0)
            return writer

        yield make


def open_run(writer, key="k", **settings):
    writer.open_run(key, f"run {key}", experiment="some", tags={}, **settings)


def log(writer, steps, key="k"):
    for step in steps:
        writer.metrics(key, [("loss", 1 / step, step, 1000 + step)])


def steps_of(client, run_id):
    return [point.step for point in client.get_metric_history(run_id, "loss")]


def test_what_is_given_arrives_in_order(uri, client, writer_to):
    writer = writer_to(uri)
    open_run(writer)
    writer.params("k", {"lr": 0.1})
    log(writer, range(1, 2501))
    writer.tags("k", {"state": "first"})
    writer.tags("k", {"state": "second"})
    writer.end_run("k", "FINISHED")
    assert writer.flush(60)
    run = client.get_run(writer.find_run_id("k"))
    assert steps_of(client, run.info.run_id) == list(range(1, 2501))
    assert (run.info.status, run.data.tags["state"], run.data.params) == ("FINISHED", "second", {"lr": "0.1"})
    assert (writer.undelivered, writer.problem) == (0, "")


def test_points_are_sent_without_being_asked(uri, client, writer_to):
    writer = writer_to(uri)
    open_run(writer)
    log(writer, range(1, 4))
    run_id = writer.find_run_id("k", 10)
    until = time.monotonic() + 10
    while time.monotonic() < until and len(steps_of(client, run_id)) < 3:
        time.sleep(0.05)
    assert steps_of(client, run_id) == [1, 2, 3]


def test_closing_delivers_and_leaves_nothing(uri, client, writer_to, tmp_path):
    writer = writer_to(uri)
    open_run(writer)
    log(writer, range(1, 11))
    writer.close()
    writer.close()
    assert steps_of(client, writer.find_run_id("k")) == list(range(1, 11))
    assert list((tmp_path / "spool").iterdir()) == []
    log(writer, [11])
    assert writer.undelivered == 0


@pytest.mark.slow
def test_without_a_server_nothing_blocks_and_a_later_writer_delivers(uri, client, writer_to, tmp_path):
    writer = writer_to(NOWHERE)
    start = time.monotonic()
    open_run(writer)
    log(writer, range(1, 501))
    writer.end_run("k", "FINISHED")
    assert time.monotonic() - start < 0.5
    assert writer.find_run_id("k", 0.1) is None
    assert not writer.flush(0.5)
    writer.close(1.0)
    assert time.monotonic() - start < 5
    assert writer.undelivered == 502
    assert "502 entries wait" in writer.problem
    assert "127.0.0.1:9" in writer.problem
    assert "\n" not in writer.problem

    later = writer_to(uri)
    open_run(later, key="other")
    assert later.flush(30)
    run_id = later.find_run_id("k")
    assert steps_of(client, run_id) == list(range(1, 501))
    assert client.get_run(run_id).info.status == "FINISHED"
    assert later.problem == ""


def test_memory_stays_small_while_nothing_can_be_delivered(writer_to, tmp_path):
    writer = writer_to(NOWHERE)
    open_run(writer)
    log(writer, range(1, 20_001))
    writer.flush(0.1)
    assert len(writer._incoming) == 0
    assert len(writer._spool._memory) == 0
    assert writer.undelivered == 20_001
    assert sum(file.stat().st_size for file in (tmp_path / "spool").glob("*.jsonl")) > 20_000 * 20


def test_a_writer_without_a_folder_keeps_a_bounded_number(writer_to):
    writer = TrackingWriter(NOWHERE, None, flush_seconds=0.1, most_in_memory=100)
    log(writer, range(1, 1001))
    writer.close(0.1)
    assert writer._spool.lost == 900
    assert writer.undelivered == 1000
    assert "lost" in writer.problem


@pytest.mark.slow
def test_a_password_is_nowhere(writer_to, tmp_path, uri, client):
    secret = "s3cret"
    writer = writer_to(f"http://me:{secret}@127.0.0.1:9")
    open_run(writer)
    writer.params("k", {"storage": f"postgresql://me:{secret}@host/db"})
    writer.tags("k", {"note": f"see http://me:{secret}@host"})
    writer.text("k", f"ConnectionError: http://me:{secret}@host", "traceback.txt")
    writer.flush(1.0)
    writer.close(0.1)
    assert writer.problem
    spooled = b"".join(file.read_bytes() for file in (tmp_path / "spool").iterdir())
    assert secret not in writer.problem
    assert secret.encode() not in spooled
    assert b"***@host" in spooled


_SCRIPT = """
    import os
    from pathlib import Path
    from opttune.tracking.writer import TrackingWriter
    writer = TrackingWriter("{uri}", Path("{spool}"), flush_seconds=0.2)
    writer.open_run("k", "run", experiment="some", tags={{}})
    for step in range(1, 301):
        writer.metrics("k", [("loss", 1.0, step, step)])
"""


@pytest.fixture
def run_script(tmp_path, script_env):
    def run(uri, body):
        code = textwrap.dedent(_SCRIPT).format(uri=uri, spool=tmp_path / "spool") + body
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path, env=script_env
        )

    return run


@pytest.mark.slow
def test_a_process_that_forgets_to_close_delivers_all_the_same(uri, client, run_script):
    done = run_script(uri, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (run,) = client.search_runs([client.get_experiment_by_name("some").experiment_id])
    assert len(steps_of(client, run.info.run_id)) == 300


@pytest.mark.slow
def test_what_a_killed_process_had_given_is_delivered_by_the_next(uri, client, writer_to, run_script):
    done = run_script(NOWHERE, "import time; time.sleep(1); os.kill(os.getpid(), 9)")
    assert done.returncode == -9
    writer = writer_to(uri)
    assert writer.flush(30)
    assert len(steps_of(client, writer.find_run_id("k"))) == 300


class HalfDead(BaseHTTPRequestHandler):
    """Says that it is well, and answers nothing else."""

    requests: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        self.requests.append((self.path, self.headers["Authorization"]))
        if self.path != "/health":
            time.sleep(20)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def half_dead():
    server = ThreadingHTTPServer(("127.0.0.1", 0), HalfDead)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_call_that_hangs_holds_up_neither_the_spool_nor_the_end(half_dead, writer_to, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    writer = writer_to(half_dead)
    open_run(writer)
    time.sleep(0.5)
    log(writer, range(1, 2001))
    start = time.monotonic()
    assert not writer.flush(0.5)
    assert len(writer._incoming) == 0
    writer.close(0.5)
    assert time.monotonic() - start < 3
    assert writer.undelivered == 2001
    assert "2001 entries wait" in writer.problem
    assert len(HalfDead.requests) >= 2
    assert all(authorization.startswith("Basic ") for _, authorization in HalfDead.requests)


@pytest.mark.slow
def test_a_server_killed_midway_gets_every_point_exactly_once(server, client, writer_to):
    server.start()
    writer = writer_to(server.uri)
    open_run(writer)
    for step in range(1, 2501):
        log(writer, [step])
        if step == 800:
            time.sleep(1.0)
            server.kill()
        if step % 100 == 0:
            time.sleep(0.1)
    assert writer.undelivered > 0
    server.start()
    writer.end_run("k", "FINISHED")
    assert writer.flush(90)
    run_id = writer.find_run_id("k")
    assert sorted(steps_of(client, run_id)) == list(range(1, 2501))
    assert client.get_run(run_id).info.status == "FINISHED"
    assert writer.problem == ""


@pytest.mark.slow
def test_a_server_gone_for_good_does_not_hold_up_the_end(server, writer_to, capfd):
    server.start()
    writer = writer_to(server.uri)
    open_run(writer)
    log(writer, range(1, 101))
    assert writer.flush(30)
    server.kill()
    log(writer, range(101, 201))
    start = time.monotonic()
    writer.close(3.0)
    assert time.monotonic() - start < 5
    assert writer.undelivered == 100
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_steps_that_a_killed_process_had_taken_up_again_are_there_once(uri, client, writer_to, tmp_path):
    first = writer_to(uri)
    open_run(first)
    log(first, range(1, 8))
    first.close()
    # what a process leaves that reopened the run, delivered that, and was killed before it could deliver more
    spool = Spool(tmp_path / "spool")
    spool.append([Operation(Kind.METRICS, "k", [["loss", 2.0, step, 5000 + step] for step in range(5, 11)])])
    spool.close()
    last = writer_to(uri)
    open_run(last)
    last.flush()
    assert steps_of(client, last.find_run_id("k")) == list(range(1, 11))
