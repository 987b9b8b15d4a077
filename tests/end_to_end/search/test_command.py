"""The command as a separate process: stopped, killed, run twice, and what it prints where."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from opttune.storages.open_storage import open_storage
from opttune.study.result import SearchResult
from tests.support.search_models import Classifier, loaders
from tests.support.searches import (
    MODULES,
    TINY,
    Tracked,
    command_env,
    command_line,
    make_database,
    run_command,
    run_search,
    start_command,
    write_space,
)
from tests.support.warm import WarmProcess

pytestmark = pytest.mark.slow
# too short for rungs: every trial is trained to its end
STEPS, BUDGET = 20, 4


def search_arguments(folder: Path, model: str = "Slow") -> list[str | Path]:
    if not (folder / "mlflow.db").exists():
        make_database(folder)
    return [
        "search", f"{MODULES}:{model}", f"{MODULES}:loaders", "--space", write_space(folder, TINY), "--study", "s",
        "--max-steps", str(STEPS), "--budget", str(BUDGET), "--seed", "3", "--out-dir", "out", "--json",
        "--no-baseline", "--no-report",
    ]  # fmt: skip


@contextmanager
def started(folder: Path, *arguments: str | Path) -> Iterator[WarmProcess]:
    with start_command(folder, *(arguments or search_arguments(folder))) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def started_fresh(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    # a runner in the background ignores Ctrl-C, and its children would as well
    with_ctrl_c = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", with_ctrl_c, *command_line(*search_arguments(folder))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, text=True, env=command_env(), **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: WarmProcess, words: str) -> None:
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words!r}")


def states(folder: Path) -> list[TrialState]:
    study = optuna.load_study(study_name="s", storage=open_storage(None, folder / "out"))
    return [trial.state for trial in study.trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    # the same module without the waiting
    folder = tmp_path_factory.mktemp("undisturbed")
    return run_search(folder, Classifier, data=loaders, max_steps=STEPS, budget=BUDGET, seed=3, baseline=False)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, float, str]:
    """Ctrl-C within the fit of the second trial."""
    folder = tmp_path_factory.mktemp("stopped")
    with started(folder) as process:
        wait_for(process, "trial 0")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        _, errors = process.communicate(timeout=60)
    return folder, process.returncode, time.monotonic() - pressed, errors


def test_ctrl_c_ends_the_command_with_130_in_seconds(stopped: tuple[Path, int, float, str]) -> None:
    _, code, seconds, errors = stopped

    assert code == 130
    assert seconds < 10
    assert "the same command continues from here" in errors
    found = r"^stopped after \S+ of \S+ trainings: best val_loss \S+ with .* \(trial 0\); the study is in out$"
    assert re.search(found, errors, re.MULTILINE), errors
    assert "Traceback" not in errors


def test_ctrl_c_leaves_the_trial_waiting_and_nothing_running_until_the_same_command_resumes(
    stopped: tuple[Path, int, float, str], undisturbed: SearchResult
) -> None:
    folder = stopped[0]
    tracked = Tracked(folder)

    assert states(folder) == [TrialState.COMPLETE, TrialState.WAITING]
    assert tracked.parent.info.status == "KILLED"
    assert [run.info.status for run in tracked.children] == ["FINISHED", "KILLED"]
    assert tracked.children[1].data.tags["opttune.state"] == "interrupted"

    done = run_command(folder, *search_arguments(folder))
    trials = json.loads(done.stdout)["trials"]
    tracked = Tracked(folder)
    expected = undisturbed.trials

    assert done.returncode == 0
    # the stopped training resumes after its last step: nothing is lost
    assert [row["number"] for row in trials] == [0, 1, 2, 3]
    assert [row["state"] for row in trials] == ["complete"] * 4
    assert [row["value"] for row in trials] == list(expected["value"])
    assert [row["lr"] for row in trials] == list(expected["lr"])
    assert tracked.parent.info.status == "FINISHED"
    assert [run.info.status for run in tracked.children] == ["FINISHED"] * 4
    assert [step for step, _ in tracked.curve(tracked.children[1], "train/loss")] == list(range(1, STEPS + 1))


def test_after_kill_9_the_same_command_resumes_without_a_difference(tmp_path: Path, undisturbed: SearchResult) -> None:
    with started(tmp_path) as process:
        wait_for(process, "trial 0")
        time.sleep(0.3)
        process.kill()
        process.wait()
    left = states(tmp_path)
    done = run_command(tmp_path, *search_arguments(tmp_path))
    plain = json.loads(done.stdout)
    tracked = Tracked(tmp_path)

    assert left == [TrialState.COMPLETE, TrialState.RUNNING]
    assert done.returncode == 0
    assert [row["value"] for row in plain["trials"]] == list(undisturbed.trials["value"])
    assert [row["lr"] for row in plain["trials"]] == list(undisturbed.trials["lr"])
    assert plain["best_value"] == undisturbed.best_value
    assert states(tmp_path) == [TrialState.COMPLETE] * 4
    assert tracked.parent.info.status == "FINISHED"
    assert [run.info.status for run in tracked.children] == ["FINISHED"] * 4
    assert [step for step, _ in tracked.curve(tracked.children[1], "train/loss")] == list(range(1, STEPS + 1))
    left_there = {path.name for path in (tmp_path / "out").iterdir() if path.suffix not in (".png", ".html")}
    assert left_there == {".lock", "best.ckpt", "best_recipe.yaml", "study.journal"}


def test_a_second_search_in_the_same_folder_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        wait_for(process, "opttune: Slow")
        # it makes no progress, so that it outlives the second however long that takes
        process.send_signal(signal.SIGSTOP)
        second = run_command(tmp_path, *search_arguments(tmp_path))
        assert process.poll() is None

    assert second.returncode == 2
    assert "another search is running in out" in second.stderr
    assert second.stdout == ""


@pytest.mark.parametrize(("phase", "engine"), [("fit", "local"), ("validation", "inline"), ("checkpoint", "local")])
def test_ctrl_c_in_a_phase_that_does_not_end_by_itself_ends_the_command_and_the_same_one_resumes(
    phase: str, engine: str, undisturbed: SearchResult, tmp_path: Path
) -> None:
    arguments = [*search_arguments(tmp_path, "Lingering"), "--engine", engine]
    (tmp_path / "phase.txt").write_text(phase)
    with started(tmp_path, *arguments) as process:
        while not (tmp_path / "reached").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        _, errors = process.communicate(timeout=60)
        seconds = time.monotonic() - pressed
    left = states(tmp_path)
    done = run_command(tmp_path, *arguments)
    trials = json.loads(done.stdout)["trials"]

    assert process.returncode == 130, errors
    assert seconds < 10
    assert "Traceback" not in errors
    assert left == [TrialState.WAITING]
    assert done.returncode == 0
    assert [row["state"] for row in trials] == ["complete"] * len(trials)
    # what the stopped training had cost counts, so that one trial fewer may be paid for
    assert len(trials) >= BUDGET - 1
    assert [row["value"] for row in trials] == list(undisturbed.trials["value"].head(len(trials)))
    assert "RUNNING" not in Tracked(tmp_path).states


@pytest.mark.parametrize("seconds", [1.0, 4.5])
def test_ctrl_c_at_any_moment_of_the_start_leaves_nothing_running(seconds: float, tmp_path: Path) -> None:
    with started_fresh(tmp_path) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "RUNNING" not in Tracked(tmp_path).states


@pytest.mark.parametrize("then", ["", "raise RecursionError('it is imported in part')\n"])
def test_ctrl_c_that_a_library_swallows_while_it_is_loaded_still_ends_the_command(then: str, tmp_path: Path) -> None:
    swallowing = "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n"
    loaded = "from tests.support.search_models import Classifier, loaders\n"
    (tmp_path / "own.py").write_text(swallowing + then + loaded)
    arguments = ("search", "own.py:Classifier", "own.py:loaders", "--max-steps", "20", "--engine", "inline")
    # a shell makes what runs in its background ignore Ctrl-C
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from opttune.cli import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, env=command_env(), capture_output=True, text=True
    )

    assert done.returncode == 130, done.stderr
    assert not (tmp_path / "opttune_runs").exists()


def test_an_empty_folder_gets_the_database_and_standard_error_plain_lines(tmp_path: Path) -> None:
    arguments = search_arguments(tmp_path, "Talkative")
    os.unlink(tmp_path / "mlflow.db")
    done = run_command(tmp_path, *arguments)
    lines = [line for line in done.stderr.splitlines() if line != "the user's own words"]

    assert done.returncode == 0
    assert json.loads(done.stdout)["study"] == "s"
    assert lines[0].startswith("opttune: Talkative")
    assert "\x1b" not in done.stderr
    assert not [line for line in lines if "Warning" in line or "INFO" in line]
    assert Tracked(tmp_path).parent.info.status == "FINISHED"


def test_bad_input_shows_its_traceback_under_debug_alone(tmp_path: Path) -> None:
    plain = run_command(tmp_path, *search_arguments(tmp_path, "Manual"))
    debugged = run_command(tmp_path, *search_arguments(tmp_path, "Manual"), "--debug")

    assert plain.returncode == 2
    assert len(plain.stderr.splitlines()) == 1
    assert "Traceback" in debugged.stderr
    assert "has made no optimizer step" in debugged.stderr.splitlines()[-1]
