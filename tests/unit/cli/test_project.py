"""`--config` and the arguments after `--`."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opttune.cli import main
from opttune.cli.parser import _make_parser
from opttune.cli.project import read_project, split_arguments
from opttune.errors import InputError
from opttune.project import read
from tests.support.cli_project import CONFIG, write_project


@pytest.fixture(autouse=True)
def _in_a_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    path, module = list(sys.path), sys.modules["__main__"]
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    yield
    read._OPENED.clear()
    sys.path[:] = path
    sys.modules["__main__"] = module
    sys.modules.pop("network", None)


def options(*arguments: str) -> argparse.Namespace:
    return _make_parser().parse_args(["search", "--config", "config.yaml", *arguments])


@pytest.mark.parametrize(
    ("arguments", "own", "project"),
    [
        (["search", "--config=c", "--", "--a=1", "--", "b"], ["search", "--config=c"], ["--a=1", "--", "b"]),
        (["search", "--config", "c"], ["search", "--config", "c"], []),
        # a file whose name begins with a dash
        (["search", "--", "-m.py:Net"], ["search", "--", "-m.py:Net"], []),
    ],
)
def test_arguments_after_the_dashes_go_to_a_project(arguments: list[str], own: list[str], project: list[str]) -> None:
    assert split_arguments(arguments) == (own, project)


def test_the_config_says_what_the_command_line_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    told = read_project(options())
    assert told["max_epochs"] == 3
    assert (told["monitor"], told["mode"], told["seed"]) == ("val_loss", "min", 7)
    assert "opttune: The model is Net, from main.py and config.yaml." in capsys.readouterr().err


def test_the_command_line_goes_before_the_config() -> None:
    told = read_project(options("--max-steps", "8", "--seed", "2", "--monitor", "val_acc", "--cli", "main.py"))
    assert (told["max_steps"], told["max_epochs"]) == (8, None)
    assert not {"seed", "monitor", "mode"} & told.keys()


def test_a_config_without_a_length_asks_for_one() -> None:
    Path("config.yaml").write_text(CONFIG.replace("max_epochs: 3", "max_epochs: -1"))
    with pytest.raises(InputError, match=r"config.yaml sets no length .* Give --max-steps N or --max-epochs"):
        read_project(options())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--max-steps", "3"], "name the model to tune, .* --config config.yaml"),
        (["search", "main.py:Net", "--cli", "main.py", "--max-steps", "3"], "give --config FILE as well"),
        (["search", "--config", "config.yaml", "--", "--model.widht=3"], "unrecognized arguments: --model.widht=3"),
    ],
)
def test_a_slip_is_answered_in_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert re.search(words, capsys.readouterr().err)
