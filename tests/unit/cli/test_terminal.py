import json
from dataclasses import replace
from pathlib import Path

import pytest

from opttune.cli.terminal import print_preview, print_report, print_result, print_verdict, report_json, result_json
from opttune.confirming.verdict import study_verdict
from opttune.study.result import SearchResult
from opttune.yaml_text import read_yaml
from tests.support.records import confirmed_study, full_study, record, stored
from tests.support.search_models import Classifier, FailsInItsFifthStep, loaders
from tests.support.searches import TINY, WILD, make_space, run_search

WRITTEN = [Path("out/report.html"), Path("out/a.png")]
KEYS = [
    "study", "run_id", "best_value", "baseline_value", "best_recipe", "steps_spent", "budget_steps", "trials",
    "warnings",
]  # fmt: skip
WITH_ADAMW = TINY[TINY.index("  adamw") : TINY.index("schedule:")] + "schedule:"
BOTH = WILD.replace("prior: 1e-3", "prior: 1e3").replace("schedule:", WITH_ADAMW)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("summary")
    return run_search(folder, Classifier, data=loaders, space=make_space(BOTH), budget=6, max_steps=20)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return run_search(tmp_path_factory.mktemp("nothing"), FailsInItsFifthStep, data=loaders, baseline=False)


@pytest.mark.slow
def test_the_json_has_the_contracts_keys_and_no_nan(result: SearchResult) -> None:
    plain = json.loads(json.dumps(result_json(result), allow_nan=False))

    assert list(plain) == KEYS
    assert plain["best_recipe"]["optimizer"]["name"] == result.best_recipe.optimizer.name  # type: ignore[union-attr]
    assert plain["budget_steps"] == 120


def test_the_jsons_rows_are_the_tables(result: SearchResult) -> None:
    rows = result_json(result)["trials"]

    assert [list(row) for row in rows] == [list(result.trials.columns)] * len(result.trials)
    assert [row["lr"] for row in rows] == list(result.trials["lr"])
    assert None in [row["value"] for row in rows]


def test_the_json_of_a_search_without_a_result_is_whole(nothing: SearchResult) -> None:
    plain = json.loads(json.dumps(result_json(nothing), allow_nan=False))

    assert list(plain) == KEYS
    assert (plain["best_value"], plain["best_recipe"], plain["baseline_value"]) == (None, None, None)
    assert [row["state"] for row in plain["trials"]] == ["fail"] * 3


def test_the_answer_is_printed_with_the_gain_the_recipe_and_where_to_look(
    result: SearchResult, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(result, None)
    shown = capsys.readouterr().out

    assert f"best val_loss {result.best_value:.5g} with {result.best_recipe} (trial " in shown
    assert f"baseline {result.baseline_value:.5g} with SGD(lr=0.0001) (your own optimizer)" in shown
    assert f"RecipeCallback({str(result.config.best_recipe_path)!r})" in shown
    assert shown.splitlines()[-2:] == [
        f"more than luck?  opttune confirm {result.config.out_dir}",
        "see every trial  mlflow ui",
    ]


def test_warnings_come_before_what_to_do_next(result: SearchResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(replace(result, warnings=("be warned",)), None)
    shown = capsys.readouterr().out.splitlines()

    places = [next(at for at, line in enumerate(shown) if line.startswith(word)) for word in (
        "best ", "baseline ", "optimizer: {", "warning          be warned", "train with it", "more than luck?",
    )]  # fmt: skip
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("folder", "storage", "study"),
    [
        (Path("opttune_runs/a_b"), None, "'a b'"),
        (Path("else where"), None, "'else where'"),
        (Path("anywhere"), "postgresql://me:secret@host/db", "'a b' --storage 'postgresql://***@host/db'"),
    ],
)
def test_the_command_for_a_verdict_finds_the_study(
    folder: Path, storage: str | None, study: str, result: SearchResult, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(result.config, study_name="a b", out_dir=folder)
    print_result(replace(result, config=config), None, storage)

    assert f"more than luck?  opttune confirm {study}" in capsys.readouterr().out.splitlines()


def test_the_printed_recipe_is_a_recipe_file(result: SearchResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result, None)
    shown = capsys.readouterr().out
    text = shown[shown.index("optimizer: {") :].partition("\n\n")[0]

    assert read_yaml(text).data == json.loads(json.dumps(result_json(result)["best_recipe"]))


def test_the_table_ranks_the_trials_that_have_a_value(result: SearchResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result, None)
    shown = capsys.readouterr().out
    valued = result.trials.dropna(subset=["value"]).sort_values("value")["number"]
    ranked = [int(line.split("│")[1]) for line in shown.splitlines() if line.startswith("│")]

    assert ranked == list(valued.head(5))


def test_a_search_without_a_result_says_so(nothing: SearchResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(nothing, None)
    shown = capsys.readouterr().out

    assert shown.startswith("No trial finished with a value. See the reasons above")
    assert "failed alike" in shown


def test_mlflows_address_is_shown_without_its_password(
    result: SearchResult, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(result, "postgresql://me:secret@host/db")
    shown = capsys.readouterr().out

    assert "mlflow ui --backend-store-uri postgresql://***@host/db" in shown
    assert "secret" not in shown


def test_a_preview_is_a_line_for_each_thing(capsys: pytest.CaptureFixture[str]) -> None:
    print_preview({"study": "s", "budget_steps": 20000, "optimizers": ["sgd", "adamw"], "out_dir": str(Path("out"))})

    assert capsys.readouterr().out.splitlines() == [
        "study         s",
        "budget steps  20,000",
        "optimizers    sgd, adamw",
        "out dir       out",
    ]


def test_the_report_in_short_says_the_answer_the_cost_and_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(full_study(), WRITTEN)
    shown = capsys.readouterr().out

    assert "the best of 6 trials (3 finished, 1 diverged, 1 failed, 1 left behind)" in shown
    assert "best val_loss 0.0001 with muon(lr=0.05), linear() (trial 3)" in shown
    assert "baseline 2.5 with SGD(lr=0.0001) (your own optimizer)" in shown
    assert "cost             4.2 full trainings of 100 steps" in shown
    assert "stability        adamw: 1 of 4 trials diverged" in shown
    assert shown.rstrip().endswith("the report       out/report.html, and 1 images beside it")


def test_where_no_trial_finished_the_report_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(stored([record(0, None)]), WRITTEN)

    assert "No trial finished with a value." in capsys.readouterr().out


def test_the_verdict_is_a_row_for_each_and_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = study_verdict(confirmed_study())
    assert verdict is not None
    print_verdict(verdict)
    shown = capsys.readouterr().out

    assert "val_loss on 3 new seeds" in shown
    assert "3 of 3" in shown
    assert shown.rstrip().endswith(verdict.sentences[-1])


def test_the_json_of_a_report_holds_it() -> None:
    plain = json.loads(json.dumps(report_json(confirmed_study(), WRITTEN), allow_nan=False, default=str))

    assert (plain["report"], plain["best_trial"], plain["baseline_value"]) == ("out/report.html", 3, 2.5)
    assert plain["verdict"]["seeds"] == [1, 2, 3]
    assert [row["optimizer"] for row in plain["equal_cost"]] == ["adamw", "muon"]
