import json
import re
from pathlib import Path

import pytest

from opttune.cli import BAD_INPUT, DONE, main
from opttune.space.parse import space_names
from tests.support.searches import TINY, write_space


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["spaces", "list"],
        ["spaces", "show", "wide"],
        ["optimizers"],
        ["optimizers", "adamw"],
        ["schedules"],
        ["schedules", "cosine"],
    ],
)
def test_a_listing_is_a_table_or_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == DONE
    table = capsys.readouterr().out
    assert main([*arguments, "--json"]) == DONE
    plain = json.loads(capsys.readouterr().out)

    assert len(table.splitlines()) > 3
    assert plain


def test_one_of_the_catalog_in_json_is_an_object_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["optimizers", "lion", "--json"])
    plain = json.loads(capsys.readouterr().out)
    main(["optimizers", "--json"])

    assert (plain["name"], plain["options"][0]["option"], plain["state_bytes"]) == ("lion", "lr", 4.0)
    assert isinstance(json.loads(capsys.readouterr().out), list)


@pytest.mark.slow
@pytest.mark.parametrize("name", [["cosine"], []])
def test_schedules_are_drawn_into_a_file(name: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedules", *name, "--plot", "a.png", "--steps", "50"]) == DONE
    assert capsys.readouterr().out == "wrote a.png\n"
    assert main(["schedules", *name, "--plot", "b.svg", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out) == {"plot": "b.svg"}

    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "b.svg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cosine", "--plot", "a.txt"], "suffix must be one of .*png.*, got a.txt"),
        (["cosine", "--plot", "a"], "suffix must be one of"),
        (["cosine", "--plot", "nowhere/a.png"], "cannot write nowhere/a.png: No such file or directory"),
        (["--plot", "nowhere/a.png"], "cannot write nowhere/a.png"),
        (["cosin", "--plot", "a.png"], "Did you mean 'cosine'"),
        (["plateau", "--plot", "a.png"], "it has no curve"),
        (["cosine", "--plot", "a.png", "--steps", "0"], "--steps must be a whole number >= 1, got 0"),
        (["cosine", "--steps", "5"], "give --plot FILE"),
    ],
)
def test_a_picture_that_cannot_be_made_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedules", *arguments]) == BAD_INPUT
    shown = capsys.readouterr()

    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert re.search(words, shown.err), shown.err
    assert list(folder.iterdir()) == []


def test_spaces_are_listed_shown_and_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["spaces", "list", "--json"])
    assert [row["space"] for row in json.loads(capsys.readouterr().out)] == list(space_names())

    assert main(["spaces", "check", str(write_space(folder, TINY)), "--json"]) == DONE
    assert "adamw" in json.loads(capsys.readouterr().out)["optimizer"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["spaces", "show", "wid"], "Did you mean 'wide'"),
        (["spaces", "check", "nowhere.yaml"], "nowhere.yaml"),
        (["optimizers", "adamww"], "Did you mean 'adamw'"),
        (["schedules", "cosin"], "Did you mean 'cosine'"),
    ],
)
def test_a_listing_of_what_is_not_there_comes_with_the_nearest(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == BAD_INPUT
    shown = capsys.readouterr().err

    assert words in shown
    assert len(shown.splitlines()) == 1
