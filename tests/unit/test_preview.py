"""What is looked at before anything is trained; what the command prints of it is tested in test_cli.py."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.engines.engine import Done
from opttune.errors import InputError, MissingExtraError, MonitorError
from opttune.outcome import Outcome, StopReason
from opttune.planning import make_plan
from opttune.preview import budget_steps, inspect_workload, measure_steps, preview, settle_for
from opttune.space.auto import ModelFacts
from opttune.study.config import SearchConfig
from opttune.study.prior_runs import PriorRuns, read_prior_runs
from opttune.training.attempt import Attempt
from opttune.training.inspection import ModelInspection
from opttune.training.workload import Workload
from tests.support import several_optimizers as several
from tests.support.search_models import Classifier, loaders
from tests.support.searches import TINY, make_space


def plan_for(folder: Path, **settings: Any) -> tuple[SearchConfig, Workload]:
    told: dict[str, Any] = {
        "space": make_space(TINY), "monitor": "val_loss", "mode": "min", "max_steps": 20, "max_epochs": None,
        "budget": 5.5, "trials": None, "timeout": None, "workers": 1, "engine": None, "study": None,
        "out_dir": folder, "seed": 0, "guard": None, "baseline": True, "trainer": None,
    }  # fmt: skip
    return make_plan(Classifier, loaders, **{**told, **settings})


def test_it_says_what_would_be_done_and_leaves_nothing(tmp_path: Path) -> None:
    plain = preview(*plan_for(tmp_path))

    assert plain["replaces"] == "SGD(lr=0.0001)"
    assert (plain["full_length_steps"], plain["budget_steps"]) == (20, 110)
    assert plain["optimizers"] == ["adamw"]
    assert re.fullmatch(r"about \d+ s", plain["expected_time"])
    # the table says whose groups it has
    assert re.match(r"of adamw\(lr=.*\), constant\(\):\n\n\| group \|", plain["groups"])
    assert "warning" not in plain
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_groups_shows_the_rate_of_the_first_trial(tmp_path: Path) -> None:
    plain = preview(*plan_for(tmp_path, space="auto"))

    assert plain["optimizers"][0] == "adamw"
    # 20 steps are few: the rate starts ten times as high
    assert "of adamw(lr=0.01, " in plain["groups"]
    assert re.search(r"\| decay \| \d+ \| \d+ \| 0.01 \|", plain["groups"])


def test_a_mode_that_looks_wrong_is_told_before_anything_is_spent(tmp_path: Path) -> None:
    assert "give mode max" in preview(*plan_for(tmp_path, monitor="val_acc"))["warning"]


def test_a_metric_that_is_never_logged_is_refused_by_a_preview_too(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="Did you mean 'val_loss'"):
        preview(*plan_for(tmp_path, monitor="val_lost"))


def test_a_look_of_a_step_finds_a_metric_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="val_lost"):
        inspect_workload(*plan_for(tmp_path, monitor="val_lost"), steps=1)


def test_a_space_of_the_users_own_is_searched_as_it_is(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path)
    looked = inspect_workload(config, workload, steps=0)

    assert settle_for(config, looked).space == config.space
    assert budget_steps(config, looked) == 110


def test_a_missing_extra_is_told_before_its_first_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, workload = plan_for(tmp_path)
    looked = inspect_workload(config, workload, steps=0)

    def missing(info: Any) -> None:
        raise MissingExtraError("pip install it")

    monkeypatch.setattr("opttune.build.load.load_class", missing)
    with pytest.raises(MissingExtraError):
        settle_for(config, looked)


def test_the_groups_shown_of_several_optimizers_are_those_that_auto_keeps(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path, space="auto", budget=10)
    plain = preview(config, replace(workload, model=several.Gan, data=several.loaders))

    assert plain["optimizers"] == ["own+own"]
    assert plain["groups"].startswith("of your own optimizers:\n\n| group |")
    assert "| generator: group 1 |" in plain["groups"]


def prior_runs(config: SearchConfig, **named: Path) -> PriorRuns:
    places = {"storage": None, "warm_start": None, "baseline_run": None, "learn_from": None, **named}
    return read_prior_runs(config, tracking_uri="sqlite:///nothing.db", **places)


def test_the_runs_that_a_search_starts_from_are_in_its_plan(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path / "out", space="adamw")
    (curve := tmp_path / "curve.csv").write_text("step,val_loss\n10,0.6\n20,0.25\n")
    (earlier := tmp_path / "earlier.csv").write_text("optimizer,lr,val_loss\nadamw,0.0203,0.3\n")
    plain = preview(config, workload, prior_runs(config, baseline_run=curve, learn_from=earlier))

    assert plain["baseline"] == f"0.25 at the end of the file {curve}"
    assert f"Learned from 1 training of the file {earlier}." in plain["why"]
    assert "of adamw(lr=0.0203, " in plain["groups"]


def test_a_plan_refuses_the_curve_of_another_length(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path)
    (curve := tmp_path / "curve.csv").write_text("step,val_loss\n10,0.6\n30,0.25\n")

    with pytest.raises(InputError, match="ends at step 30, and a full training has 20"):
        preview(config, workload, prior_runs(config, baseline_run=curve))


class WarmsUpItself(Classifier):
    """Sets its rate in each step, as nanoGPT does."""

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = 1e-3 * (self.global_step + 1)
        super().optimizer_step(*args, **kwargs)


def test_code_that_sets_the_rate_is_found_before_another_schedule_is_searched(tmp_path: Path) -> None:
    config, workload = plan_for(tmp_path, space="own")
    for model, expected in ((WarmsUpItself, ["own"]), (Classifier, ["own", "cosine", "linear"])):
        inspection = inspect_workload(config, replace(workload, model=model), steps=3)
        assert [branch.name for branch in settle_for(config, inspection).space.schedules] == expected


class Workers:
    """An engine that answers at its second call, with what the steps of each optimizer take."""

    slots, trains_here = 2, False

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.attempts: list[Attempt] = []
        self.is_asked = False

    def submit(self, job: int, attempt: Attempt, listener: Any) -> None:
        assert not self.is_asked, "one at a time"
        self.attempts.append(attempt)

    def next_done(self, timeout_seconds: float) -> Done | None:
        self.is_asked = not self.is_asked
        if self.is_asked:
            return None
        assert self.attempts[-1].recipe is not None
        name = self.attempts[-1].recipe.optimizer.name
        answer = self.answers[name].pop(0)
        if isinstance(answer, Exception | Outcome):
            return Done(0, answer)  # type: ignore[arg-type]
        return Done(0, Outcome(StopReason.PAUSED, 0.5, 11, 100, 1.0, step_seconds=answer))

    def stop(self) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


MEASURED = """
optimizer: {own: {}, adamw: {lr: 0.1}, sgd: {lr: 0.1}}
schedule: {cosine: {}}
"""


def measure(folder: Path, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Workers, dict[str, float]]:
    # on a slow machine there would be fewer rounds
    monkeypatch.setattr("opttune.preview._LEAST_ROUNDS", 3)
    monkeypatch.setattr("opttune.preview._MOST_ROUNDS", 3)
    config, _ = plan_for(folder, space=make_space(MEASURED), max_steps=100, budget_unit="time")
    engine = Workers(answers)
    inspection = ModelInspection("Net", 1, 100, "SGD(lr=0.1)", has_own_optimizer=True, facts=ModelFacts(1))
    return engine, measure_steps(config, engine, inspection)


def test_steps_are_measured_where_the_search_trains_and_the_least_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"own": [0.02, 0.01, 0.03], "adamw": [0.05, 0.04, 0.06], "sgd": [None, None, None]}
    engine, measured = measure(tmp_path, answers, monkeypatch)

    # the module's own optimizer is the baseline's, and is measured once; what has no figure is left out
    assert measured == {"baseline": 0.01, "adamw": 0.04}
    assert [attempt.recipe.is_baseline for attempt in engine.attempts if attempt.recipe] == [True, False, False] * 3
    assert {(attempt.until_step, attempt.trainer["max_steps"]) for attempt in engine.attempts} == {(11, 100)}


def test_an_error_or_ctrl_c_while_steps_are_measured_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MonitorError):
        measure(tmp_path, {"own": [MonitorError("no val_loss")]}, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, {"own": [Outcome(StopReason.INTERRUPTED, None, 3, 100, 1.0)]}, monkeypatch)
