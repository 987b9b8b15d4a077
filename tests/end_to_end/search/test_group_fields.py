"""A search whose parameter groups vary: from the space to the trials, MLflow, the report, the export and a resume."""

import json
from pathlib import Path

import optuna
import pytest

import opttune
from opttune.cli import BAD_INPUT, DONE, main
from opttune.export import export_study
from opttune.report.recipes import field_importances
from opttune.report.values import value_over_groups
from opttune.report.write import make_charts
from opttune.space.recipe_file import load_recipe
from opttune.study.frozen_study import load_study
from opttune.study.result import SearchResult
from tests.support.search_models import Classifier, loaders
from tests.support.searches import Tracked, make_space, run_search, write_space

TEXT = r"""
optimizer:
  adamw:
    lr: {low: 1e-3, high: 1e-1, log: true, prior: 1e-2}
groups:
  layer_decay: {low: 0.5, high: 1.0, prior: 0.9}
  lora_plus_ratio: {low: 1, high: 32, log: true}
  rules:
    - {match: '^net\.0\.', lr_ratio: {low: 0.01, high: 1, log: true, prior: 0.1}}
    - {match: '^backbone\.', lr_ratio: {low: 0.01, high: 1, log: true}}
"""
NAMES = {"adamw.lr", "groups.layer_decay", "groups.lr_ratio_net_0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return run_search(folder, Classifier, data=loaders, space=make_space(TEXT), budget=8)


def test_each_trial_has_its_rates_and_what_means_nothing_is_left_out(result: SearchResult) -> None:
    first = result.trials.iloc[0]
    assert (first["layer_decay"], first["lr_ratio_net_0"]) == (0.9, 0.1)
    assert len(set(result.trials["layer_decay"])) > 1
    assert {"lr_ratio_backbone", "groups.lora_plus_ratio"}.isdisjoint(result.trials.columns)
    assert all(set(trial.params) == NAMES for trial in result.study.get_trials())
    notes = result.config.space_notes
    assert any(note.startswith("groups.lora_plus_ratio is left out") for note in notes)
    assert any(r"matches '^backbone\\.'" in note for note in notes)


def test_mlflow_holds_them_and_the_table_of_groups(result: SearchResult, folder: Path) -> None:
    tracked = Tracked(folder)
    assert tracked.children[0].data.params["lr_ratio_net_0"] == "0.1"
    assert tracked.children[0].data.params["layer_decay"] == "0.9"
    assert "groups.md" in tracked.artifacts(tracked.children[0])


def test_the_report_draws_them(result: SearchResult, folder: Path) -> None:
    study = load_study(folder / "out")
    chart = value_over_groups(study)
    assert chart is not None
    assert [panel.title for panel in chart.panels] == ["layer_decay", "lr_ratio_net_0"]
    assert [panel.x_log for panel in chart.panels] == [False, True]
    assert len(chart.panels[0].series[0].x) == sum(result.trials["state"] == "complete")
    assert "value_over_groups" in [each.name for each in make_charts(study, {})]
    assert set(field_importances(study.study, "min")) <= NAMES


def test_the_best_recipe_is_written_read_and_exported(result: SearchResult, folder: Path) -> None:
    recipe = load_recipe(folder / "out" / "best_recipe.yaml")
    assert recipe == result.best_recipe
    assert recipe.groups.layer_decay is not None
    assert [rule.match for rule in recipe.groups.rules] == [r"^net\.0\."]
    python = export_study(str(folder / "out"), "python")
    assert "RULES" in python.text
    compile(python.text, "exported.py", "exec")
    assert "layer_decay" in export_study(str(folder / "out"), "lightning-cli").text


def test_the_search_resumes_and_teaches_another(result: SearchResult, folder: Path, tmp_path: Path) -> None:
    before = len(result.trials)
    more = run_search(folder, Classifier, data=loaders, space=make_space(TEXT), budget=10)
    assert len(more.trials) > before
    assert set(more.study.get_trials()[-1].params) == NAMES
    warm = run_search(tmp_path, Classifier, data=loaders, space=make_space(TEXT), budget=2, warm_start=folder / "out")
    best = more.study.best_trial.params
    assert warm.trials.iloc[0]["lr_ratio_net_0"] == pytest.approx(best["groups.lr_ratio_net_0"])


def test_a_study_of_the_users_own_samples_them() -> None:
    space = make_space(TEXT)
    study = optuna.create_study(sampler=opttune.OpttuneSampler(space, seed=0))
    callback = opttune.TrialCallback(study.ask(), space, tracking=False, max_steps=30)
    assert callback.recipe.groups.layer_decay == 0.9
    assert callback.recipe.groups.rules[0].lr_mult == pytest.approx(0.1)


def test_the_command_shows_and_checks_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_space(tmp_path, TEXT)
    assert main(["spaces", "show", str(path)]) == DONE
    shown = capsys.readouterr().out
    assert "groups.layer_decay" in shown
    assert "0.01 .. 1 log" in shown
    assert main(["spaces", "show", str(path), "--json"]) == DONE
    as_json = json.loads(capsys.readouterr().out)
    assert as_json["groups"]["layer_decay"] == {"low": 0.5, "high": 1.0, "prior": 0.9}
    assert as_json["groups"]["rules"][1]["lr_ratio"] == {"low": 0.01, "high": 1, "log": True}
    path.write_text(TEXT.replace("layer_decay", "layer_decy"))
    assert main(["spaces", "check", str(path)]) == BAD_INPUT
    said = " ".join(capsys.readouterr().err.split())
    assert ":6: unknown key 'layer_decy' in groups. Did you mean 'layer_decay'?" in said
