"""Whole searches on the halving: trials pause at rungs and are promoted, whatever stops the search meanwhile."""

import json
import signal
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from opttune.algorithms.rungs import SuccessiveHalving
from opttune.outcome import StopReason
from opttune.storages.open_storage import open_storage
from opttune.storages.records import read_trial
from opttune.study.frozen_study import load_study
from opttune.study.result import SearchResult
from tests.support.search_models import Noting, loaders, read_moves
from tests.support.searches import (
    MODULES,
    TINY,
    Tracked,
    make_database,
    run_command,
    run_search,
    write_space,
)

LENGTH, TRIALS = 80, 11
RUNGS = SuccessiveHalving().steps(LENGTH)
# a number of trials, not a budget, ends it: what a stopped training had cost would shorten a budget
SETTINGS: dict[str, Any] = {"data": loaders, "max_steps": LENGTH, "trials": TRIALS, "budget": 20, "study": "s"}
FILES = {".lock", "best.ckpt", "best_recipe.yaml", "study.journal"}


def study_in(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="s", storage=open_storage(None, folder / "out")).trials


def states_on_disk(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out" / "checkpoints").glob("*")}


def states_of_paused(folder: Path) -> set[str]:
    study = load_study(folder / "out")
    records = [*study.records, *study.runs]
    stopped = {f"{one.name}_step_stopped.ckpt" for one in records if one.saved_steps > one.steps}
    waiting = [one for one in records if one.pauses and one.outcome is None]
    return {f"{one.name}_step_{one.steps}.ckpt" for one in waiting} | stopped


class Watched(Noting):
    """Also looks into the folder of the search at each start."""

    on_disk: list[tuple[set[str], set[str]]]

    def on_train_start(self) -> None:
        super().on_train_start()
        if (Path("out") / "study.journal").exists():
            self.on_disk.append((states_on_disk(Path()), states_of_paused(Path())))


def search_in(folder: Path, model: Any = Noting, **settings: Any) -> SearchResult:
    folder.mkdir(exist_ok=True)
    with chdir(folder):
        return run_search(folder, model, **{**SETTINGS, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    Watched.on_disk = []
    return search_in(folder, Watched)


@pytest.fixture(scope="module")
def moves(folder: Path, result: SearchResult) -> list[dict[str, Any]]:
    return read_moves(folder)


@pytest.fixture(scope="module")
def tracked(folder: Path, result: SearchResult) -> Tracked:
    return Tracked(folder)


def test_trials_pause_at_the_rungs_and_the_better_ones_are_promoted_to_the_end(
    result: SearchResult, moves: list[dict[str, Any]]
) -> None:
    trained = [(move["start"], move["end"]) for move in moves]

    assert len(result.trials) == TRIALS
    assert set(trained) >= {(0, RUNGS[0]), (RUNGS[0], RUNGS[1]), (RUNGS[1], LENGTH)}
    assert {end for _, end in trained} == set(RUNGS)
    assert set(result.trials["reason"]) == {"completed", "outranked"}
    assert list(result.trials["rung"]) == [steps / LENGTH for steps in result.trials["steps"]]
    assert result.best_value == result.trials["value"].min()


def test_the_first_trial_is_trained_to_the_end_without_comparison(result: SearchResult) -> None:
    assert result.trials["reason"][0] == "completed"


def test_a_discarded_trial_was_not_among_the_best_at_its_rung(result: SearchResult) -> None:
    given_up = [trial for trial in result.study.trials if read_trial(trial).value is None]
    for rung in RUNGS[:-1]:
        seen = [t.intermediate_values[rung] for t in result.study.trials if rung in t.intermediate_values]
        for trial in given_up:
            if read_trial(trial).steps == rung:
                assert trial.value is not None
                assert trial.value > min(seen)


def test_no_trial_is_trained_over_the_same_steps_twice(result: SearchResult, moves: list[dict[str, Any]]) -> None:
    assert result.steps_spent == sum(move["end"] - move["start"] for move in moves)
    assert result.steps_spent == result.trials["steps"].sum() + LENGTH


def test_while_it_runs_the_folder_holds_the_states_of_paused_trials_alone(result: SearchResult) -> None:
    assert all(found == expected for found, expected in Watched.on_disk)
    assert max(len(found) for found, _ in Watched.on_disk) > 1


def test_at_the_end_no_state_is_left(folder: Path, result: SearchResult) -> None:
    assert {path.name for path in (folder / "out").iterdir()} == FILES


def test_trials_that_were_not_promoted_are_pruned_in_optuna_with_the_value_of_their_rung(result: SearchResult) -> None:
    not_promoted = [trial for trial in result.study.trials if read_trial(trial).value is None]

    assert not_promoted
    assert {trial.state for trial in not_promoted} == {TrialState.PRUNED}
    for trial in not_promoted:
        assert trial.value == trial.intermediate_values[read_trial(trial).steps]


def test_trials_that_were_not_promoted_are_killed_in_mlflow_with_their_reason(
    result: SearchResult, tracked: Tracked
) -> None:
    assert tracked.parent.info.status == "FINISHED"
    assert set(tracked.states) == {"FINISHED", "KILLED"}
    for run, (_, row) in zip(tracked.children, result.trials.iterrows(), strict=True):
        tags = run.data.tags
        is_done = row["state"] == "complete"
        assert run.info.status == ("FINISHED" if is_done else "KILLED")
        assert tags["opttune.state"] == ("complete" if is_done else "pruned")
        assert tags["opttune.reason"] == row["reason"]
        assert tags["opttune.steps"] == str(row["steps"])
        assert ("opttune.message" in tags) is not is_done


def assert_each_step_is_tracked_once(tracked: Tracked, trials: pd.DataFrame) -> None:
    for run, steps in zip(tracked.children, trials["steps"], strict=True):
        assert [step for step, _ in tracked.curve(run, "train/loss")] == list(range(1, steps + 1))
        validated = [step for step, _ in tracked.curve(run, "val_loss")]
        assert validated == sorted(set(validated))
        assert validated[-1] == steps


def test_each_step_of_each_trial_is_once_in_mlflow(result: SearchResult, tracked: Tracked) -> None:
    assert_each_step_is_tracked_once(tracked, result.trials)


def stops(moves: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """After how many trainings, and at which step, to stop: in a new trial while others wait, and in resumed ones."""
    for start, end in zip((0, *RUNGS), RUNGS, strict=False):
        last = max(n for n, move in enumerate(moves) if (move["start"], move["end"]) == (start, end))
        yield last, (start + end) // 2


def joined(moves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one of two parts of a training that was stopped between rungs."""
    found: list[dict[str, Any]] = []
    for move in moves:
        if found and found[-1]["end"] == move["start"] not in (0, *RUNGS):
            found[-1] = {**found[-1], "end": move["end"]}
        else:
            found.append(move)
    return found


def assert_as_undisturbed(folder: Path, found: SearchResult, result: SearchResult, undisturbed: Path) -> None:
    assert joined(read_moves(folder)) == read_moves(undisturbed)
    columns = ["number", "state", "reason", "value", "steps", "rung", "lr", "weight_decay", "schedule"]
    assert found.trials[columns].equals(result.trials[columns])
    assert (found.best_value, found.baseline_value) == (result.best_value, result.baseline_value)
    assert [trial.intermediate_values for trial in study_in(folder)] == [
        trial.intermediate_values for trial in result.study.trials
    ]
    tracked = Tracked(folder)
    assert tracked.parent.info.status == "FINISHED"
    assert "RUNNING" not in tracked.states
    assert_each_step_is_tracked_once(tracked, found.trials)
    assert {path.name for path in (folder / "out").iterdir()} == FILES


@contextmanager
def with_ctrl_c_handled() -> Iterator[None]:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@pytest.mark.slow
@pytest.mark.parametrize("which", range(3))
def test_after_ctrl_c_while_trials_wait_it_resumes_without_a_difference(
    which: int, result: SearchResult, folder: Path, moves: list[dict[str, Any]], tmp_path: Path
) -> None:
    ended, step = list(stops(moves))[which]
    (tmp_path / "stop.json").write_text(json.dumps([ended, step, "SIGINT"]))
    with with_ctrl_c_handled(), pytest.raises(KeyboardInterrupt):
        search_in(tmp_path)
    tracked = Tracked(tmp_path)

    assert TrialState.RUNNING not in {trial.state for trial in study_in(tmp_path)}
    assert "RUNNING" not in tracked.states
    assert tracked.parent.info.status == "KILLED"
    assert states_on_disk(tmp_path) == states_of_paused(tmp_path) != set()
    for trial, run in zip(study_in(tmp_path), tracked.children, strict=True):
        is_waiting = trial.state is TrialState.WAITING
        assert (run.data.tags["opttune.state"] == "interrupted") is is_waiting

    found = search_in(tmp_path)
    assert_as_undisturbed(tmp_path, found, result, folder)


def command(folder: Path) -> list[str | Path]:
    return [
        "search", f"{MODULES}:Noting", f"{MODULES}:loaders", "--space", write_space(folder, TINY), "--study", "s",
        "--max-steps", str(LENGTH), "--budget", "20", "--trials", str(TRIALS), "--out-dir", "out", "--json",
        # the module stops the process that it is trained in
        "--engine", "inline",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("which", range(4))
def test_after_kill_9_while_trials_wait_it_resumes_without_a_difference(
    which: int, result: SearchResult, folder: Path, moves: list[dict[str, Any]], tmp_path: Path
) -> None:
    # at the end of a fit the state of its pause is written, and the study knows nothing of it yet
    ended, step = [*stops(moves), (list(stops(moves))[1][0], -1)][which]
    make_database(tmp_path)
    (tmp_path / "stop.json").write_text(json.dumps([ended, step, "SIGKILL"]))
    killed = run_command(tmp_path, *command(tmp_path))
    left = states_on_disk(tmp_path)
    for name in ("trial_0_step_3.ckpt", "trial_99_step_8.ckpt", "trial_99.ckpt", "trial_1_step_8.ckpt.part"):
        (tmp_path / "out" / "checkpoints" / name).touch()

    assert killed.returncode == -signal.SIGKILL
    assert left >= states_of_paused(tmp_path) != set()

    found = search_in(tmp_path)
    assert_as_undisturbed(tmp_path, found, result, folder)
    assert found.steps_spent == result.steps_spent


def test_a_larger_budget_each_time_resumes_and_none_is_exceeded(tmp_path: Path) -> None:
    before = pd.DataFrame({"number": []})
    for budget in (2, 3.4, 4.6):
        found = search_in(tmp_path, budget=budget, trials=None)
        columns = ["number", "state", "value", "steps", "lr"]
        tracked = Tracked(tmp_path)

        assert found.steps_spent <= found.budget_steps == int(budget * LENGTH)
        assert len(found.trials) > len(before)
        if len(before):
            assert found.trials[columns].head(len(before)).equals(before[columns])
        assert "complete" in set(found.trials["state"])
        assert {trial.state for trial in study_in(tmp_path)} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert "RUNNING" not in tracked.states
        assert_each_step_is_tracked_once(tracked, found.trials)
        assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
        before = found.trials


def test_an_error_that_comes_in_a_resumed_part_fails_that_trial_alone(tmp_path: Path) -> None:
    class FailsOnceWhenResumed(Noting):
        has_failed = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.move["start"] == RUNGS[0] and self.trainer.global_step == 20 and not self.has_failed:
                FailsOnceWhenResumed.has_failed = True
                raise RuntimeError("not beyond step 20")
            return super().training_step(batch, batch_idx)

    found = search_in(tmp_path, FailsOnceWhenResumed, trials=7, baseline=False)
    tracked = Tracked(tmp_path)
    (failed,) = found.trials.index[found.trials["state"] == "fail"]
    run = tracked.children[failed]

    assert list(found.trials.loc[failed, ["reason", "steps", "rung"]]) == ["failed", 20, RUNGS[0] / LENGTH]
    assert "complete" in set(found.trials["state"])
    assert run.info.status == "FAILED"
    assert [step for step, _ in tracked.curve(run, "train/loss")] == list(range(1, 21))
    assert "traceback.txt" in tracked.artifacts(run)
    assert found.warnings == ()
    assert found.steps_spent == found.trials["steps"].sum()
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_mode_max_promotes_the_highest(tmp_path: Path) -> None:
    found = search_in(tmp_path, monitor="val_acc", mode="max", baseline=False)
    not_promoted = [trial for trial in found.study.trials if trial.state is TrialState.PRUNED]

    assert found.best_value == found.trials["value"].max()
    assert not_promoted
    for trial in not_promoted:
        rung = read_trial(trial).steps
        seen = [other.intermediate_values.get(rung, 0.0) for other in found.study.trials]
        assert trial.value == trial.intermediate_values[rung]
        assert trial.value < max(seen)


def test_the_trials_that_were_asked_for_are_begun_and_no_more(tmp_path: Path) -> None:
    found = search_in(tmp_path, trials=3, baseline=False)

    assert len(found.trials) == 3
    assert "complete" in set(found.trials["state"])
    assert set(found.trials["reason"]) <= {str(StopReason.COMPLETED), str(StopReason.OUTRANKED)}
