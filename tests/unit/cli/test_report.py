import json
from pathlib import Path

import pytest

from opttune.cli import BAD_INPUT, DONE, main


@pytest.mark.slow
def test_the_report_is_written_beside_the_study_and_printed(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "net"]) == DONE
    shown = capsys.readouterr().out
    out = in_folder / "opttune_runs" / "net"

    assert "the best of 3 trials" in shown
    assert "the report       opttune_runs/net/report.html" in shown
    assert (out / "report.html").stat().st_size > 500_000
    assert {"best_over_cost.png", "value_over_lr.png", "learning_curves.png"} <= {path.name for path in out.iterdir()}


@pytest.mark.slow
def test_json_is_one_object_and_the_place_may_be_named(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "opttune_runs/net", "--json", "--out", "elsewhere/r.html"]) == DONE
    plain = json.loads(capsys.readouterr().out)

    assert plain["report"] == "elsewhere/r.html"
    assert len(plain["trials"]) == 3
    assert Path("elsewhere/r.html").exists()


def test_what_is_not_there_is_one_line_and_exit_code_2(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "nett"]) == BAD_INPUT
    shown = capsys.readouterr()

    assert shown.out == ""
    assert shown.err.startswith("opttune: STUDY: there is no study 'nett'")
    assert "Here are: net." in shown.err
    assert len(shown.err.splitlines()) == 1
