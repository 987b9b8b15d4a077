"""One rank of a training: what it leaves in its folder, which rank writes, and that it dies with its parent."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opttune.engines.attempt_file import MESSAGES, load_result, save_attempt, save_workload
from opttune.engines.messages import dispatch
from opttune.engines.rank_process import INSPECTION, PARENT_PIPE, main, watch_parent
from opttune.errors import MonitorError
from opttune.outcome import Outcome, StopReason
from opttune.space.sample import default_recipe
from opttune.training.attempt import Attempt
from opttune.training.inspection import ModelInspection
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support import pauses
from tests.support.listeners import RecordingListener
from tests.support.search_models import Classifier, FailsAtOnce, loaders
from tests.support.searches import MODULES, TINY, command_env, make_space
from tests.support.warm import run_warm

RECIPE = default_recipe(make_space(TINY))
FIVE = Attempt(RECIPE, "val_loss", 0, {"max_steps": 5})


def prepare(folder: Path, attempt: Attempt = FIVE, workload: Workload | None = None) -> Path:
    save_workload(folder / "workload", workload or Workload(Classifier, loaders))
    save_attempt(folder / "attempt", attempt, folder / "workload")
    return folder / "attempt"


def reported(folder: Path) -> RecordingListener:
    listener = RecordingListener()
    for line in (folder / MESSAGES).read_text().splitlines():
        dispatch(json.loads(line), listener)
    return listener


def run_process(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return run_warm(["-m", "opttune.engines.rank_process", "train", str(folder)], folder, command_env(**env))


def outcome(folder: Path) -> Outcome:
    result = load_result(folder)
    assert isinstance(result, Outcome)
    return result


@pytest.mark.slow
def test_it_trains_what_the_folder_says_from_references_alone(tmp_path: Path) -> None:
    references = Workload(Classifier, loaders, f"{MODULES}:Classifier", f"{MODULES}:loaders")
    path = tmp_path / "end.ckpt"
    attempt = Attempt(RECIPE, "val_loss", 0, {"max_steps": 5}, checkpoint=path)
    folder = prepare(tmp_path, attempt, references)
    done = run_process(folder)
    here = prepare(tmp_path / "here", attempt)
    main(["train", str(here)])

    assert done.returncode == 0, done.stderr
    assert outcome(folder).reason is StopReason.COMPLETED
    assert outcome(folder).value == outcome(here).value
    assert reported(folder).step_numbers == [1, 2, 3, 4, 5]
    assert reported(folder).records == reported(here).records
    assert torch.load(path, weights_only=True)["global_step"] == 5


def test_a_further_rank_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare(tmp_path)
    before = sorted(folder.iterdir())
    monkeypatch.setenv("LOCAL_RANK", "1")

    assert main(["train", str(folder)]) == 0
    assert sorted(folder.iterdir()) == before


def test_under_srun_every_search_speaks_for_its_own_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    folder = prepare(tmp_path)
    main(["train", str(folder)])

    assert outcome(folder).reason is StopReason.COMPLETED


def test_an_error_in_the_users_code_is_an_outcome_with_its_traceback(tmp_path: Path) -> None:
    folder = prepare(tmp_path, workload=Workload(FailsAtOnce, loaders))
    main(["train", str(folder)])

    assert outcome(folder).reason is StopReason.FAILED
    assert "never any step" in outcome(folder).traceback


def test_bad_input_comes_back_as_the_error_that_it_is(tmp_path: Path) -> None:
    folder = prepare(tmp_path, Attempt(RECIPE, "val_lost", 0, {"max_steps": 5}))
    main(["train", str(folder)])

    assert isinstance(load_result(folder), MonitorError)


def test_without_a_folder_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err


def inspect(folder: Path, monitor: str, steps: int) -> int:
    save_workload(folder / "workload", Workload(m.Net, m.loaders))
    attempt = Attempt(pauses.RECIPE, monitor, 3, {"max_steps": 14, "accelerator": "cpu"})
    save_attempt(folder, attempt, folder / "workload")
    return main(["inspect", str(folder), str(steps)])


def test_an_inspection_is_in_the_folder(tmp_path: Path) -> None:
    assert inspect(tmp_path, "val_loss", 1) == 0
    found = pickle.loads((tmp_path / INSPECTION).read_bytes())
    assert isinstance(found, ModelInspection)
    assert (found.total_steps, found.parameters) == (14, 58)


def test_so_is_the_error_of_one(tmp_path: Path) -> None:
    assert inspect(tmp_path, "val_los", 1) == 0
    assert isinstance(load_result(tmp_path), MonitorError)
    assert not (tmp_path / INSPECTION).exists()


UP = "print('up', flush=True); import time; time.sleep(60)"
CODE = f"from opttune.engines.rank_process import watch_parent; watch_parent(); {UP}"


def start_watched(**env: str) -> "subprocess.Popen[str]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CODE], start_new_session=True, env={**os.environ, **env}, **pipes)


@pytest.mark.slow
def test_it_ends_with_its_standard_input() -> None:
    process = start_watched(**{PARENT_PIPE: "1"})
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(30) < 0
    process.stdout.close()


def test_without_a_pipe_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PARENT_PIPE, raising=False)
    watch_parent()
