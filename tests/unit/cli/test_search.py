"""The command: bad input, `--dry-run`, listings; tests that need a separate process are in `test_command.py`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opttune.cli import BAD_INPUT, DONE, NO_TRIAL, main
from tests.support.searches import MODULES, TINY, make_database, write_space

BARE = """
description: for errors
optimizer:
  adamw: {lr: 1e-3}
schedule: {constant: {}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path, modules = list(sys.path), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if "search_models" in name:
            del sys.modules[name]


def search(*arguments: Any, model: str = "Classifier", data: str | None = "loaders") -> int:
    places = [f"{MODULES}:{model}", *([f"{MODULES}:{data}"] if data else [])]
    # a separate process takes seconds to start; test_command.py tests the command in one
    here = [] if "--engine" in arguments else ["--engine", "inline"]
    return main(["search", *places, *map(str, arguments), *here])


BAD: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("no such model", {"model": "Clasifier"}, (r"has no 'Clasifier'. Did you mean 'Classifier'\?",)),
    ("no such data", {"data": "loadrs"}, (r"DATA: .* has no 'loadrs'. Did you mean 'loaders'\?",)),
    ("no module", {"model": "number"}, ("must be a LightningModule, its class, or a factory, got int",)),
    ("a module's data", {"model": "Points"}, ("Points is a LightningDataModule, .*are MODEL and DATA swapped",)),
    ("arguments", {"model": "NeedsWidth"}, ("cannot be made without arguments", "def make")),
    (
        "monitor",
        {"args": ("--monitor", "val_los")},
        ("'val_los' was never logged", "val_loss", "Logged: .*val_acc"),
    ),
    ("logs nothing", {"model": "LogsNothing"}, ("'val_loss' was never logged", "val_error")),
    ("manual", {"model": "Manual"}, ("no optimizer step in 1000 batches", r"self.optimizers\(\)")),
    (
        "manual epochs",
        {"model": "Manual", "length": ("--max-epochs", "2")},
        ("Manual uses manual optimization", "Give the length as max_steps"),
    ),
    ("two optimizers", {"model": "TwoOptimizers"}, ("trains with 2 optimizers .*under automatic optimization",)),
    ("a stream", {"data": "streamed", "length": ("--max-epochs", "2")}, ("IterableDataset", "max_steps")),
    ("out dir", {"args": ("--out-dir", "file/below")}, ("cannot write to the folder file/below", "--out-dir")),
    ("fails", {"model": "FailsAtOnce"}, (r"FailsAtOnce fails .* RuntimeError: never any step \(.*search_models.py:",)),
    ("no length", {"length": ()}, ("--max-steps N or --max-epochs N",)),
    ("budget", {"args": ("--budget", "0.5")}, ("budget must be at least 1 full training",)),
    ("engine", {"args": ("--engine", "locl")}, ("unknown engine 'locl'. Did you mean 'local'",)),
    ("workers", {"args": ("--workers", "2")}, ("workers must be 1, got 2.*--engine local",)),
    ("trainer pair", {"args": ("--trainer", "accelerator")}, ("--trainer takes key=value",)),
    (
        "trainer key",
        {"args": ("--trainer", "acelerator=cpu")},
        ("Trainer has no argument 'acelerator'", "Did you mean 'accelerator'"),
    ),
    ("trainer length", {"args": ("--trainer", "max-steps=3")}, ("max_steps is the length of the search itself",)),
    ("space", {"args": ("--space", "adamww")}, ("Did you mean 'adamw'",)),
    ("devices", {"args": ("--trainer", "accelerator=tpu")}, ("accelerator='tpu' is not available", "accelerator=cpu")),
    ("storage", {"args": ("--storage", "nonsense://x")}, ("storage nonsense://x cannot be opened",)),
    ("seed", {"args": ("--seed", "-1")}, ("seed must be a whole number",)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("given", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_clear_line_and_exit_code_2(
    given: dict[str, Any], words: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {**given}
    (folder / "file").touch()
    arguments = (*given.pop("length", ("--max-steps", "5")), *given.pop("args", ()))
    code = search(*arguments, **given)
    shown = capsys.readouterr()

    assert code == BAD_INPUT
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("opttune: ")
    for word in words:
        assert re.search(word, shown.err), shown.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            BARE.replace("adamw", "adamv"),
            r"space.yaml:4: .*'adamv'. Did you mean 'adamw|space.yaml:4: .*'adamv'. Did you",
        ),
        (BARE.replace("lr:", "lrr:"), r"space.yaml:4: .*'lrr'"),
        (BARE.replace("1e-3", "{low: 1e-2, high: 1e-3, log: true}"), "space.yaml:4: .*low must be below high"),
        (BARE.replace("1e-3", "[1e-4, 1e-3]"), "space.yaml:4: .*choices"),
        (BARE.replace("{lr: 1e-3}", "{lr: 1e-3, momentum: 0.9}"), "space.yaml:4: .*'momentum'"),
        (BARE.replace("schedule", "shedule"), r"space.yaml:5: .*'shedule'.*Did you mean 'schedule'\?"),
        (BARE.replace("constant", "cosin"), r"space.yaml:5: .*'cosin'. Did you mean 'cosine'\?"),
        ("", "space.yaml"),
    ],
)
@pytest.mark.parametrize("command", ["search", "spaces"])
def test_a_bad_space_file_is_named_with_its_line(
    command: str, text: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "space.yaml").write_text(text)
    code = (
        search("--max-steps", 5, "--space", "space.yaml")
        if command == "search"
        else main(["spaces", "check", "space.yaml"])
    )
    shown = capsys.readouterr()

    assert code == BAD_INPUT
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert re.search(words, shown.err), shown.err


CHEAP = (
    ("search m.py:Net", "got neither"),
    ("search m.py:Net --max-steps 5 --max-epochs 5", "got both"),
    ("search m.py:Net --max-steps 5 --budget 0", "budget must be at least 1"),
    ("search m.py:Net --max-steps 5 --space adamww", "Did you mean 'adamw'"),
    ("search m.py:Net --max-steps 5 --space no.yaml", "cannot read the space no.yaml"),
    ("search m.py:Net --max-steps 5 --engine locl", "Did you mean 'local'"),
    ("search m.py:Net --max-steps 5 --trainer accelerator", "--trainer takes key=value"),
    ("search --max-steps 5", "name the model to tune"),
    ("search m.py:Net --cli main.py --max-steps 5", "give --config FILE as well"),
    ("search --config no.yaml", "--config: there is no file no.yaml"),
    ("search --hydra configs --config c.yaml", "--hydra names the whole project"),
    ("report net", "there is no study 'net'"),
    ("confirm net", "there is no study 'net'"),
    ("export net", "there is no study 'net'"),
    ("transfer net --max-steps 2x", "there is no study 'net'"),
)


def test_what_is_wrong_without_the_module_is_said_before_slow_libraries_are_imported(folder: Path) -> None:
    (folder / "m.py").write_text("import torch")
    code = (
        "import sys; from opttune.cli import main\n"
        f"for command in {[command for command, _ in CHEAP]!r}: assert main(command.split()) == 2\n"
        "print(*sorted({'torch', 'lightning', 'mlflow', 'optuna'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )

    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout.split(), len(lines)) == (0, [], len(CHEAP)), done.stderr
    for (command, words), line in zip(CHEAP, lines, strict=True):
        assert words in line, command


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "nowhere.py:Model", "--max-steps", "5"]) == BAD_INPUT
    assert capsys.readouterr().err == "opttune: MODEL: there is no file nowhere.py.\n"


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_space(folder, TINY)
    code = search("--max-epochs", 3, "--budget", 10, "--dry-run", "--space", path)
    shown = capsys.readouterr().out

    assert code == DONE
    assert re.search(r"replaces +SGD\(lr=0.0001\)", shown)
    assert re.search(r"full length steps +24\n", shown)
    assert re.search(r"budget steps +240\n", shown)
    assert re.search(r"varies +.*adamw.lr", shown)
    assert [each.name for each in folder.iterdir()] == ["tiny.yaml"]


def test_a_dry_run_in_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = search("--max-steps", 30, "--dry-run", "--json", model="Talkative")
    plain = json.loads(capsys.readouterr().out)

    assert code == DONE
    assert (plain["model"], plain["full_length_steps"], plain["budget_steps"]) == ("Talkative", 30, 600)
    assert list(folder.iterdir()) == []


def test_a_dry_run_reads_the_runs_that_a_search_starts_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "curve.csv").write_text("epoch,val_loss\n0,0.6\n")

    assert search("--max-steps", 30, "--dry-run", "--baseline-run", "curve.csv") == BAD_INPUT
    assert "the file curve.csv has the columns epoch, val_loss" in capsys.readouterr().err


def test_a_dry_run_refuses_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert search("--max-epochs", 5, "--dry-run", model="Manual") == BAD_INPUT
    assert "manual optimization" in capsys.readouterr().err


def small_search(folder: Path, *arguments: Any, model: str = "Classifier", with_report: bool = False) -> int:
    # drawing a report takes seconds
    uri = make_database(folder)
    space = write_space(folder, TINY)
    report = [] if with_report else ["--no-report"]
    return search(
        "--max-steps", 5, "--budget", 3, "--space", space, "--tracking-uri", uri, "--out-dir", "out", *report,
        *arguments, model=model,
    )  # fmt: skip


@pytest.mark.slow
def test_a_search_ends_with_the_answer_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = small_search(folder, with_report=True)
    shown = capsys.readouterr()

    assert code == DONE
    assert "best val_loss" in shown.out
    assert "baseline " in shown.out
    # the database of the working folder, which `mlflow ui` opens by itself
    assert "see every trial  mlflow ui" in shown.out.splitlines()
    assert shown.err.splitlines()[0].startswith("opttune: Classifier")
    assert len(shown.err.splitlines()) == 6


def test_json_is_alone_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = small_search(folder, "--json", model="Talkative")
    shown = capsys.readouterr()
    plain = json.loads(shown.out)

    assert code == DONE
    assert len(shown.out.splitlines()) == 1
    assert len(plain["trials"]) == 2
    assert "the user's own words" in shown.err
    assert "best val_loss" in shown.err


def test_the_exit_code_is_1_if_no_trial_finished(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = small_search(folder, "--json", "--no-baseline", "--budget", 10, model="FailsInItsFifthStep")
    plain = json.loads(capsys.readouterr().out)

    assert code == NO_TRIAL
    assert plain["best_recipe"] is None
    assert "the last 3 trials failed alike" in plain["warnings"][0]


def test_the_trainers_arguments_are_read_as_yaml(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_search(folder, "--json", "--trainer", "gradient-clip-val=5e-1", "accelerator=cpu", "deterministic=true")
    plain = json.loads(capsys.readouterr().out)

    assert plain["best_recipe"]["gradient_clip_norm"] == 0.5


def test_the_guard_can_be_left_out_and_the_baseline_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_search(folder, "--json", "--no-guard", "--no-baseline", "--trials", 1)
    plain = json.loads(capsys.readouterr().out)

    assert plain["baseline_value"] is None
    assert len(plain["trials"]) == 1
