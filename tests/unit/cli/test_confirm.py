import json
from pathlib import Path

import pytest

from opttune.cli import BAD_INPUT, DONE, main
from tests.support.searches import MODULES


@pytest.mark.slow
def test_model_and_data_are_those_that_the_search_was_given(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", "net", "--top", "1", "--seeds", "2", "--json"]) == DONE
    shown = capsys.readouterr()
    plain = json.loads(shown.out)

    assert [each["kind"] for each in plain["candidates"]] == ["trial", "own", "adamw"]
    assert plain["seeds"] == [2, 3]
    assert "[6 of 6 trainings] AdamW's default, seed 3: val_loss " in shown.err

    # the same again from what is kept, and in the report
    assert main(["confirm", "net", "--top", "1", "--seeds", "2", "--model", f"{MODULES}:Classifier"]) == DONE
    assert plain["verdict"] in capsys.readouterr().out
    assert main(["report", "net", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["verdict"]["verdict"] == plain["verdict"]
    assert (in_folder / "opttune_runs" / "net" / "verdict.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], "there is no study 'nosuch'"),
        (["net", "--seeds", "1"], "seeds must be a whole number >= 2, got 1"),
        (["net", "--top", "0"], "top must be a whole number >= 1, got 0"),
        (["net", "--model", "nowhere.py:Net"], "MODEL: there is no file nowhere.py"),
        (["net", "--trainer", "accelerator"], "--trainer takes key=value"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", *arguments]) == BAD_INPUT
    shown = capsys.readouterr()

    assert shown.out == ""
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1
