"""One attempt in a process of its own: what it leaves in its folder, and who of several ranks writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opttune.engines.attempt_file import MESSAGES, load_result, save_attempt, save_workload
from opttune.engines.attempt_process import main
from opttune.engines.messages import hand_on
from opttune.errors import MonitorError
from opttune.outcome import Outcome, StopReason
from opttune.space.sample import default_recipe
from opttune.training.attempt import Attempt
from opttune.training.workload import Workload
from tests.support.listeners import RecordingListener
from tests.support.search_models import Classifier, FailsAtOnce, loaders
from tests.support.searches import MODULES, TINY, command_env, make_space

RECIPE = default_recipe(make_space(TINY))
FIVE = Attempt(RECIPE, "val_loss", 0, {"max_steps": 5})


def prepare(folder: Path, attempt: Attempt = FIVE, workload: Workload | None = None) -> Path:
    save_workload(folder / "workload", workload or Workload(Classifier, loaders))
    save_attempt(folder / "attempt", attempt, folder / "workload")
    return folder / "attempt"


def heard(folder: Path) -> RecordingListener:
    listener = RecordingListener()
    for line in (folder / MESSAGES).read_text().splitlines():
        hand_on(json.loads(line), listener)
    return listener


def run_process(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "opttune.engines.attempt_process", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=command_env(**env), cwd=folder)


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
    main([str(here)])

    assert done.returncode == 0, done.stderr
    assert outcome(folder).reason is StopReason.COMPLETED
    assert outcome(folder).value == outcome(here).value
    assert heard(folder).step_numbers == [1, 2, 3, 4, 5]
    assert heard(folder).records == heard(here).records
    assert torch.load(path, weights_only=True)["global_step"] == 5


def test_a_further_rank_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare(tmp_path)
    before = sorted(folder.iterdir())
    monkeypatch.setenv("LOCAL_RANK", "1")

    assert main([str(folder)]) == 0
    assert sorted(folder.iterdir()) == before


def test_under_srun_every_search_speaks_for_its_own_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    folder = prepare(tmp_path)
    main([str(folder)])

    assert outcome(folder).reason is StopReason.COMPLETED


def test_an_error_in_the_users_code_is_an_outcome_with_its_traceback(tmp_path: Path) -> None:
    folder = prepare(tmp_path, workload=Workload(FailsAtOnce, loaders))
    main([str(folder)])

    assert outcome(folder).reason is StopReason.FAILED
    assert "never any step" in outcome(folder).traceback


def test_bad_input_comes_back_as_the_error_that_it_is(tmp_path: Path) -> None:
    folder = prepare(tmp_path, Attempt(RECIPE, "val_lost", 0, {"max_steps": 5}))
    main([str(folder)])

    assert isinstance(load_result(folder), MonitorError)


def test_without_a_folder_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err
