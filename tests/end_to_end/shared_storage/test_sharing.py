"""Several commands at a time on one study: each trial is trained once, and what a dead one leaves is taken over."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from opttune.storages.open_storage import open_storage
from opttune.storages.records import read_trial
from opttune.trial_record import TrialRecord
from tests.support.postgres import postgres_server
from tests.support.search_models import read_moves
from tests.support.searches import MODULES, TINY, Tracked, make_database, start_command, write_space
from tests.support.warm import WarmProcess

pytestmark = pytest.mark.slow
LENGTH, TRIALS = 80, 9


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["postgres", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("postgres")) if request.param == "postgres" else f"journal://{tmp_path / 'j'}"


def start(folder: Path, url: str, study: str, model: str = "SlowNoting", *more: str) -> WarmProcess:
    arguments = [
        "search", f"{MODULES}:{model}", f"{MODULES}:loaders", "--space", write_space(folder, TINY), "--study", study,
        "--max-steps", str(LENGTH), "--budget", "12", "--trials", str(TRIALS), "--out-dir", "out", "--json",
        "--storage", url, "--engine", "inline", "--no-report", *more,
    ]  # fmt: skip
    return start_command(folder, *arguments)


def records(url: str, study: str, folder: Path) -> list[TrialRecord]:
    storage = open_storage(url, folder)
    try:
        found = optuna.load_study(study_name=study, storage=storage)
        return [read_trial(trial) for trial in found.trials]
    finally:
        storage.remove_session()
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()


def test_two_commands_on_one_study_do_everything_once_and_both_end(url: str, tmp_path: Path) -> None:
    study = tmp_path.name
    make_database(tmp_path)
    processes = [start(tmp_path, url, study) for _ in range(2)]
    said = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], [errors for _, errors in said]
    found = records(url, study, tmp_path)
    plain = [json.loads(out) for out, _ in said]
    moves = read_moves(tmp_path)
    tracked = Tracked(tmp_path)

    assert len(found) == TRIALS
    assert len({record.holder for record in found}) == 2
    assert {record.state for record in found} <= {"complete", "pruned"}
    assert sum(move["end"] - move["start"] for move in moves) == plain[0]["steps_spent"] == plain[1]["steps_spent"]
    assert plain[0]["trials"] == plain[1]["trials"]
    assert plain[0]["best_value"] == plain[1]["best_value"]
    assert plain[0]["run_id"] == plain[1]["run_id"]
    assert tracked.parent.info.status == "FINISHED"
    assert len(tracked.children) == TRIALS
    assert "RUNNING" not in tracked.states


def test_what_a_killed_command_leaves_is_taken_over_by_the_other(postgres: str, tmp_path: Path) -> None:
    study = tmp_path.name
    make_database(tmp_path)
    killed, other = start(tmp_path, postgres, study, "Slow"), start(tmp_path, postgres, study, "Slow")
    with ending(killed, other):
        left = _killed_while_it_trains(killed, postgres, study, tmp_path)
        out, errors = other.communicate(timeout=400)
    found = records(postgres, study, tmp_path)

    assert other.returncode == 0, errors
    assert len(found) == TRIALS
    assert {record.state for record in found} <= {"complete", "pruned"}
    assert all(f"/{other.pid}/" in found[number].holder for number in left)
    assert json.loads(out)["best_value"] is not None
    assert "RUNNING" not in Tracked(tmp_path).states


def test_a_command_whose_time_is_over_leaves_what_waits_to_the_other(postgres: str, tmp_path: Path) -> None:
    study = tmp_path.name
    make_database(tmp_path)
    other = start(tmp_path, postgres, study, "Slow")
    with ending(other):
        until = time.monotonic() + 200
        # without a value the command that leaves would have nothing to say, and end with 1
        while not _has_both(_records(postgres, study, tmp_path)):
            assert other.poll() is None, other.communicate()
            assert time.monotonic() < until
            time.sleep(0.2)
        # it leaves before its first training
        leaves = start(tmp_path, postgres, study, "Slow", "--timeout", "0.001")
        with ending(leaves):
            _, errors = leaves.communicate(timeout=200)
        continued = other.poll() is None
        _, other_errors = other.communicate(timeout=400)
    found = records(postgres, study, tmp_path)

    assert leaves.returncode == 0, errors
    assert continued
    assert not [record.number for record in found if f"/{leaves.pid}/" in record.holder]
    assert other.returncode == 0, other_errors
    assert len(found) == TRIALS
    assert {record.state for record in found} <= {"complete", "pruned"}
    assert "RUNNING" not in Tracked(tmp_path).states


@contextmanager
def ending(*commands: WarmProcess) -> Iterator[None]:
    """Let none of them outlive the block, however it ends."""
    try:
        yield
    finally:
        for command in commands:
            command.kill()
            command.communicate()


def _killed_while_it_trains(command: WarmProcess, url: str, study: str, folder: Path) -> list[int]:
    """Kill a command while it and another train; return the trials that it held."""
    until = time.monotonic() + 200
    while time.monotonic() < until:
        assert command.poll() is None, command.communicate()
        if _held_beside_others(command, url, study, folder):
            # stopped, it does not end the trial between the look and the kill
            os.kill(command.pid, signal.SIGSTOP)
            if held := _held_beside_others(command, url, study, folder):
                os.kill(command.pid, signal.SIGKILL)
                command.communicate()
                return held
            os.kill(command.pid, signal.SIGCONT)
        time.sleep(0.2)
    raise TimeoutError("the two have not trained at the same time")


def _held_beside_others(command: WarmProcess, url: str, study: str, folder: Path) -> list[int]:
    running = _running(url, study, folder)
    held = [record.number for record in running if f"/{command.pid}/" in record.holder]
    return held if len(running) > len(held) else []


def _running(url: str, study: str, folder: Path) -> list[TrialRecord]:
    return [record for record in _records(url, study, folder) if record.is_running]


def _has_both(found: list[TrialRecord]) -> bool:
    return any(record.is_paused for record in found) and any(record.value is not None for record in found)


def _records(url: str, study: str, folder: Path) -> list[TrialRecord]:
    try:
        return records(url, study, folder)
    except KeyError:
        # not made yet
        return []
