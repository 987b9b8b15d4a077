"""The loop of a worker process; what it trains is tested through the engine, in test_local.py."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opttune.engines.attempt_file import read_result, save_attempt, save_workload
from opttune.outcome import Outcome, StopReason
from opttune.space.sample import default_recipe
from opttune.training.attempt import Attempt
from opttune.training.workload import Workload
from tests.support.search_models import Talkative, loaders
from tests.support.searches import TINY, command_env, make_space

FIVE = Attempt(default_recipe(make_space(TINY)), "val_loss", 0, {"max_steps": 5})


@pytest.mark.slow
def test_standard_output_is_for_messages_alone_and_the_user_speaks_on_standard_error(tmp_path: Path) -> None:
    save_workload(tmp_path / "workload", Workload(Talkative, loaders))
    for name in ("a", "b"):
        save_attempt(tmp_path / name, FIVE, tmp_path / "workload")
    commands = [{"environment": {"A": "b"}}, {"train": str(tmp_path / "a")}, {"train": str(tmp_path / "b")}]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", "opttune.engines.worker"], stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        env=command_env(), start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.writelines(json.dumps(command) + "\n" for command in commands)
        process.stdin.flush()
        results = []
        while len(results) < 2:
            message = json.loads(process.stdout.readline())
            if "rss_bytes" in message:
                results.append(read_result(message))
        process.stdin.close()
        errors = process.stderr.read()
        process.wait(timeout=30)

    assert all(isinstance(one, Outcome) and one.reason is StopReason.COMPLETED for one in results)
    assert errors.count("the user's own words") == 2


@pytest.mark.slow
def test_where_its_driver_is_killed_no_process_is_left(tmp_path: Path) -> None:
    code = (
        "import time; from opttune.engines.worker_process import WorkerProcess\n"
        "print(WorkerProcess().pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=command_env()) as driver:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        driver.kill()
    until = time.monotonic() + 120
    while os.path.exists(f"/proc/{pid}/stat") and time.monotonic() < until:
        time.sleep(0.1)

    assert not os.path.exists(f"/proc/{pid}/stat")
