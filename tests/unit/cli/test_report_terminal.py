import json
from pathlib import Path

import pytest

from opttune.cli.report_terminal import print_report, print_verdict, report_json
from opttune.confirming.verdict import study_verdict
from tests.support.records import full_study, record, stored
from tests.unit.report.test_verdict import confirmed_study

WRITTEN = [Path("out/report.html"), Path("out/a.png")]


def test_the_report_in_short_says_the_answer_the_cost_and_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(full_study(), WRITTEN)
    shown = capsys.readouterr().out

    assert "the best of 6 trials (3 finished, 1 diverged, 1 failed, 1 left behind)" in shown
    assert "best             val_loss 0.0001 with muon(lr=0.05), linear() (trial 3)" in shown
    assert "as it came       2.5 with SGD(lr=0.0001)" in shown
    assert "cost             4.2 full trainings of 100 steps" in shown
    assert "to heed          adamw: 1 of 4 trials diverged" in shown
    assert shown.rstrip().endswith("the report       out/report.html, and 1 pictures beside it")


def test_where_no_trial_came_through_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(stored([record(0, None)]), WRITTEN)

    assert "No trial came through." in capsys.readouterr().out


def test_the_verdict_is_a_row_for_each_and_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = study_verdict(confirmed_study())
    assert verdict is not None
    print_verdict(verdict)
    shown = capsys.readouterr().out

    assert "val_loss on 3 new seeds" in shown
    assert "3 of 3" in shown
    assert shown.rstrip().endswith(verdict.sentences[-1])


def test_json_holds_the_report() -> None:
    plain = json.loads(json.dumps(report_json(confirmed_study(), WRITTEN), allow_nan=False, default=str))

    assert (plain["report"], plain["best_trial"], plain["baseline_value"]) == ("out/report.html", 3, 2.5)
    assert plain["verdict"]["seeds"] == [1, 2, 3]
    assert [row["optimizer"] for row in plain["equal_cost"]] == ["adamw", "muon"]
