"""kill -9 at random moments, again and again: the same command ends with the same trials, and nothing is done twice.

`OPTTUNE_TEST_KILLS` sets how often; CI does it a few times.
"""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from opttune.algorithms.rungs import SuccessiveHalving
from opttune.storages.open_storage import open_storage
from opttune.storages.records import read_trial
from tests.support.search_models import read_moves
from tests.support.searches import MODULES, TINY, Tracked, make_database, start_command, write_space
from tests.support.warm import WarmProcess

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("OPTTUNE_TEST_KILLS", "2"))
LENGTH, TRIALS = 80, 6
RUNGS = (0, *SuccessiveHalving().steps(LENGTH))
MOST_RUNS = 3 * KILLS + 3
COLUMNS = ("number", "state", "reason", "value", "steps", "lr", "weight_decay", "schedule")


def start(folder: Path, model: str = "SlowNoting") -> WarmProcess:
    arguments = [
        "search", f"{MODULES}:{model}", f"{MODULES}:loaders", "--space", write_space(folder, TINY), "--study", "s",
        "--max-steps", str(LENGTH), "--budget", "20", "--trials", str(TRIALS), "--out-dir", "out", "--json",
        "--no-report",
    ]  # fmt: skip
    with (folder / "said.txt").open("a") as said:
        return start_command(folder, *arguments, stderr=said)


def answer(process: WarmProcess, folder: Path) -> dict[str, Any]:
    out, _ = process.communicate(timeout=500)
    assert process.returncode == 0, (folder / "said.txt").read_text()
    plain: dict[str, Any] = json.loads(out)
    return plain


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_database(folder)
    # the same module without the waiting
    return answer(start(folder, "Noting"), folder), read_moves(folder)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_worker(pid: int) -> bool:
    try:
        return b"opttune.engines.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def await_that(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def assert_as_undisturbed(
    folder: Path, plain: dict[str, Any], undisturbed: tuple[dict[str, Any], list[dict[str, Any]]], kills: int
) -> None:
    expected, moves = undisturbed
    study = optuna.load_study(study_name="s", storage=open_storage(None, folder / "out"))
    tracked = Tracked(folder)
    found = read_moves(folder)

    assert [[row[name] for name in COLUMNS] for row in plain["trials"]] == [
        [row[name] for name in COLUMNS] for row in expected["trials"]
    ]
    assert plain["best_value"] == expected["best_value"]
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert "RUNNING" not in tracked.states
    assert tracked.parent.info.status == "FINISHED"
    assert len(tracked.children) == TRIALS
    # a training that came to its end is done again only where the kill came before it was written down
    assert len(found) - len(moves) <= kills
    assert {json.dumps(move) for move in found} == {json.dumps(move) for move in moves}
    for record in map(read_trial, study.trials):
        curve = [step for step, _ in tracked.curve(tracked.children[record.number], "train/loss")]
        assert curve == list(range(1, record.steps + 1))


def test_a_worker_is_killed_at_random_moments(
    undisturbed: tuple[dict[str, Any], list[dict[str, Any]]], tmp_path: Path
) -> None:
    moments, killed = random.Random(0), 0
    make_database(tmp_path)
    process = start(tmp_path)
    while killed < KILLS and process.poll() is None:
        before = (tmp_path / "said.txt").read_text().count("[")
        # some training must come to its end in between, or the same attempt dies three times and is given up
        await_that(
            lambda before=before: (tmp_path / "said.txt").read_text().count("[") > before or bool(process.poll())
        )
        time.sleep(moments.uniform(0.0, 2.0))
        killed += sum(kill(pid) for pid in children(process.pid) if is_worker(pid))
    plain = answer(process, tmp_path)

    assert killed > 0
    assert_as_undisturbed(tmp_path, plain, undisturbed, killed)


def test_the_command_is_killed_at_random_moments_and_given_again(
    undisturbed: tuple[dict[str, Any], list[dict[str, Any]]], tmp_path: Path
) -> None:
    moments, killed = random.Random(1), 0
    make_database(tmp_path)
    for _ in range(MOST_RUNS):
        process = start(tmp_path)
        if killed == KILLS:
            break
        workers: list[int] = []
        started = (tmp_path / "said.txt").read_text().count("opttune: SlowNoting")
        await_that(
            lambda n=started, one=process: (
                (tmp_path / "said.txt").read_text().count("opttune: SlowNoting") > n or one.poll() is not None
            )
        )
        time.sleep(moments.uniform(0.0, 6.0))
        workers = list(filter(is_worker, children(process.pid)))
        if process.poll() is not None:
            break
        killed += kill(process.pid)
        process.communicate()
        # orphans see that no process gives them commands any more
        assert await_that(lambda pids=workers: not any(map(is_worker, pids)), 30.0)
    plain = answer(process, tmp_path)

    assert killed > 0
    assert_as_undisturbed(tmp_path, plain, undisturbed, killed)
