"""Where a trial of the user's own study is written; the rest of it is seen through `TrialCallback`."""

from pathlib import Path

import optuna
import pytest

from opttune.integration.trial_tracking import TrialTracking
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.storages.open_storage import quiet_optuna
from tests.support.records import make_outcome
from tests.support.searches import Tracked, command_env, make_database
from tests.support.warm import WarmProcess

RECIPE = Recipe(Part("sgd", {"lr": 0.1}))
DONE = make_outcome(0.5, total_steps=10)


def track(trial: optuna.trial.BaseTrial, uri: str, outcome: Outcome = DONE) -> None:
    tracking = TrialTracking(trial, uri)
    tracking.open([], RECIPE, 10)
    tracking.end(outcome)


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return make_database(tmp_path)


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_parent(uri: str, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    with quiet_optuna():
        optuna.create_study(study_name="shared", storage=storage)
    code = (
        "import os, time, optuna; from tests.unit.integration.test_trial_tracking import track\n"
        f"study = optuna.load_study(study_name='shared', storage={storage!r})\n"
        "print('ready', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.001)\n"
        f"track(study.ask(), {uri!r})"
    )
    others = [WarmProcess(["-c", code], tmp_path, command_env()) for _ in range(2)]
    assert [other.stdout.readline() for other in others] == ["ready\n"] * 2
    (tmp_path / "go").touch()
    for other in others:
        other.communicate()
    tracked = Tracked(tmp_path)

    assert [other.returncode for other in others] == [0, 0]
    assert tracked.parent.info.status == "FINISHED"
    assert [run.info.status for run in tracked.children] == ["FINISHED"] * 2


def test_a_trial_of_no_study_is_written_nowhere(uri: str, tmp_path: Path) -> None:
    track(optuna.trial.FixedTrial({}), uri)

    assert Tracked(tmp_path).parents == []
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(("reason", "status"), [(StopReason.PRUNED, "KILLED"), (StopReason.FAILED, "FAILED")])
def test_the_childs_state_is_the_outcomes(uri: str, tmp_path: Path, reason: StopReason, status: str) -> None:
    with quiet_optuna():
        study = optuna.create_study()
        track(study.ask(), uri, make_outcome(None, reason, steps=3, total_steps=10, message="why"))

    assert [run.info.status for run in Tracked(tmp_path).children] == [status]


def test_a_working_folder_that_cannot_be_written_stops_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opttune_runs").touch()
    with quiet_optuna():
        track(optuna.create_study().ask(), uri)

    assert [run.info.status for run in Tracked(tmp_path).children] == ["FINISHED"]
