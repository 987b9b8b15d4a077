"""Ctrl-C and kill -9 in a training of each role: it continues from its last checkpoint, and ends as if undisturbed."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from opttune.algorithms.rungs import SuccessiveHalving
from opttune.job import Role
from tests.support import stopping_module
from tests.support.search_models import INSPECTED
from tests.support.searches import MODULES, Tracked, make_database, run_command, write_space
from tests.support.stopping_module import read_notes

pytestmark = pytest.mark.slow
LENGTH, KILLED_AT, PRESSED_AT = 40, 20, 30
RUNG = SuccessiveHalving().steps(LENGTH)[0]
SPACE = """
optimizer:
  sgd:
    lr: {low: 1e-2, high: 1.0, log: true, prior: 1e-1, source: test}
schedule: {constant: {}}
"""
# the seed of a training, and whether it has the module's own optimizer, tell its role
KINDS = {
    Role.TRIAL: (0, False),
    Role.BASELINE: (0, True),
    Role.REPLICATE: (1, False),
    Role.CONFIRMATION: (2, False),
}


def search(folder: Path) -> Any:
    return run_command(
        folder, "search", f"{stopping_module.__file__}:Stopping", f"{MODULES}:loaders",
        "--space", write_space(folder, SPACE), "--max-steps", str(LENGTH), "--budget", "16", "--study", "s",
        "--engine", "inline", "--out-dir", "out", "--no-report", "--json",
    )  # fmt: skip


def confirm(folder: Path) -> Any:
    return run_command(folder, "confirm", "out", "--top", "1", "--seeds", "2", "--json")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_database(folder)
    for command in (search, confirm):
        done = command(folder)
        assert done.returncode == 0, done.stderr
        (folder / f"{command.__name__}.json").write_text(done.stdout)
    return folder


def stop_in(folder: Path, role: Role, signal_name: str, step: int) -> None:
    seed, is_own = KINDS[role]
    (folder / "stop.json").write_text(json.dumps({"seed": seed, "own": is_own, "step": step, "signal": signal_name}))


def count_notes(folder: Path) -> Counter[tuple[int, bool, int]]:
    return Counter((note["seed"], note["own"], note["start"]) for note in read_notes(folder))


def _without_times(found: dict[str, Any]) -> list[dict[str, Any]]:
    times = ("seconds_spent", "step_seconds")
    return [{name: value for name, value in row.items() if name not in times} for row in found["trials"]]


def test_each_role_continues_where_it_was_stopped(undisturbed: Path, tmp_path: Path) -> None:
    make_database(tmp_path)
    for role in Role:
        command = confirm if role is Role.CONFIRMATION else search
        for name, step, code in (("SIGKILL", KILLED_AT, -9), ("SIGINT", PRESSED_AT, 130)):
            stop_in(tmp_path, role, name, step)
            stopped = command(tmp_path)
            assert stopped.returncode == code, stopped.stderr
            assert not (tmp_path / "stop.json").exists()
        if role is Role.REPLICATE:
            searched = search(tmp_path)
    confirmed = confirm(tmp_path)

    # a killed training continues from its last rung, an interrupted one after the step that it had just done
    again = Counter({(*KINDS[role], start): 1 for role in Role for start in (RUNG, PRESSED_AT + 1)})
    # each search begins with an inspection, which resumes one of its trainings after a step
    searches = 2 * (len(Role) - 1)
    again += Counter({(0, False, 0): (INSPECTED - 1) * searches, (0, False, 1): searches})
    # a confirmation begins with two steps: to compare the model with the search's, and to try AdamW's default
    again += Counter({(0, False, 0): 2 * 2})
    assert count_notes(tmp_path) - count_notes(undisturbed) == again
    assert not count_notes(undisturbed) - count_notes(tmp_path)
    expected = json.loads((undisturbed / "search.json").read_text())
    assert _without_times(json.loads(searched.stdout)) == _without_times(expected)
    verdicts = [json.loads(text) for text in (confirmed.stdout, (undisturbed / "confirm.json").read_text())]
    assert verdicts[0]["candidates"] == verdicts[1]["candidates"]
    tracked = Tracked(tmp_path)
    assert set(tracked.states) <= {"FINISHED", "KILLED"}
    roles = Counter(run.data.tags["opttune.role"] for run in tracked.runs)
    assert roles == Counter(run.data.tags["opttune.role"] for run in Tracked(undisturbed).runs)
    for run in tracked.runs:
        if run.data.tags["opttune.role"] not in ("study", "trial"):
            assert run.info.status == "FINISHED"
            assert [step for step, _ in tracked.curve(run, "train/loss")] == list(range(1, LENGTH + 1))
