"""`opttune transfer` on a search that was made, and on a recorded one."""

import json
from pathlib import Path

import pytest

from opttune.cli import BAD_INPUT, DONE, main
from opttune.space.recipe_file import load_recipe
from opttune.study.frozen_study import load_study
from tests.support import recorded

RECORDED = str(Path(recorded.__file__).parent / "finished")


def transfer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["transfer", *arguments, "--json"]) == DONE
    return json.loads(capsys.readouterr().out)


def test_the_recipe_is_written_and_its_moves_are_explained(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = next(one for one in load_study("net").records if one.value is not None and one.optimizer == "adamw")
    assert main(["transfer", "net", "--max-steps", "10x", "--trial", str(record.number)]) == DONE
    printed = capsys.readouterr().out

    written = load_study("net").config.out_dir / "recipe_50_steps.yaml"
    recipe = load_recipe(written)
    assert recipe.optimizer.rate == pytest.approx(record.rate * 10**-0.15, rel=1e-3)
    assert recipe.schedule == record.recipe.schedule
    assert "adamw.lr" in printed
    assert "multiplied by (50/5)^-0.15 = 0.71" in printed
    assert "no forecast can be made" in printed
    assert f"wrote {written}" in printed
    assert "expected" not in written.read_text()
    assert "length: max_steps=50" in written.read_text()


def test_json_holds_what_is_printed(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--max-steps", "20", "--trial", "6", "--out", str(in_folder / "short.yaml"))
    found = transfer(capsys, RECORDED, *given)

    assert load_recipe("short.yaml").to_dict() == found["recipe"]
    assert (found["max_steps"], found["searched_steps"], found["expected"]) == (20, 60, None)
    # a shorter training takes a higher rate
    assert found["recipe"]["optimizer"]["lr"] == pytest.approx(5e-4 * 3**0.15, rel=1e-3)
    # the study is from before the batches of an epoch were kept
    assert found["recipe"]["optimizer"]["weight_decay"] == 0.108
    assert any("not known how often the data are passed over" in sentence for sentence in found["moved"])


def test_your_own_optimizer_stays(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = transfer(capsys, RECORDED, "--max-steps", "10x", "--out", "own.yaml")

    assert found["recipe"]["optimizer"] == {"name": "own"}
    assert any("your module's optimizer and the factors on it stay" in sentence for sentence in found["moved"])
    assert any("make sure that it uses the new length" in sentence for sentence in found["moved"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-steps", "0"], "--max-steps must be a whole number of optimizer steps > 0"),
        (["--max-steps", "-5x"], "got '-5x'"),
        (["--max-steps", "ten"], "got 'ten'"),
        (["--max-steps", "101x"], "101 times the 60 searched steps"),
        (["--max-steps", "9" * 400], "must be a whole number"),
        (["--max-epochs", "2x"], "recorded was searched for 60 steps"),
        (["--max-steps", "2x", "--trial", "99"], "it has no trial 99"),
        (["--max-steps", "2x", "--out", "nowhere/r.yaml"], "cannot write nowhere/r.yaml"),
    ],
)
def test_what_cannot_be_done_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    flag, value, *rest = arguments
    assert main(["transfer", RECORDED, f"{flag}={value}", *rest]) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_trial_that_did_not_reach_its_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    paused = next(one.number for one in load_study(RECORDED).records if one.value is None and one.recipe is not None)
    assert main(["transfer", RECORDED, "--max-steps", "2x", "--trial", str(paused)]) == BAD_INPUT
    assert f"trial {paused} of recorded was not trained to the end" in capsys.readouterr().err
