import json
from pathlib import Path

import pytest

from opttune.cli import BAD_INPUT, DONE, main
from opttune.cli.export import FORMATS
from opttune.export.study import FORMATS as FORMS
from opttune.space.recipe_file import load_recipe


def test_the_formats_are_those_that_there_are() -> None:
    assert FORMATS == FORMS


@pytest.mark.parametrize(
    ("form", "words"), [("recipe", "optimizer: {"), ("lightning-cli", "callbacks+:"), ("python", "torch.optim.AdamW(")]
)
def test_a_recipe_is_printed_in_the_form_that_is_asked_for(
    form: str, words: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "net", "--format", form]) == DONE
    assert words in capsys.readouterr().out


def test_a_file_may_be_written_and_json_printed(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "net", "--output", "r.yaml", "--trial", "0", "--json"]) == DONE
    plain = json.loads(capsys.readouterr().out)

    assert load_recipe("r.yaml").to_dict() == plain["recipe"]
    assert plain["output"] == "r.yaml"
    assert main(["export", "net", "--output", "nowhere/r.yaml"]) == BAD_INPUT
    assert "cannot write nowhere/r.yaml" in capsys.readouterr().err
