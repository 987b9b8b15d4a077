"""Ctrl-C at any moment of a search, again and again: whatever it hits, the search resumes without a difference."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock
from optuna.trial import TrialState
from pandas.testing import assert_frame_equal

from opttune.storages.open_storage import open_storage
from opttune.storages.records import LOST_STEPS
from opttune.study.result import SearchResult
from tests.support.search_models import Classifier, loaders
from tests.support.searches import Tracked, make_database, make_space, run_search

# Python itself says so when Ctrl-C comes while it cleans up after an object
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
# values far enough apart that no rounding decides which is promoted, and some that blow up
FAR_APART = """
optimizer:
  sgd:
    lr: {low: 1e-3, high: 1e3, log: true, prior: 1e-2, source: test}
schedule: {constant: {}}
"""
SETTINGS: dict[str, Any] = {"data": loaders, "space": make_space(FAR_APART), "max_steps": 30, "budget": 8}
PRESSES = 5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, float]:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_database(folder)
    started = time.monotonic()
    return run_search(folder, Classifier, **SETTINGS), time.monotonic() - started


@contextmanager
def pressed_after(seconds: float) -> Iterator[None]:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGINT, usual)


def stored_study(folder: Path) -> optuna.Study | None:
    if not (folder / "out" / "study.journal").exists():
        return None
    return optuna.load_study(study_name="Classifier-tiny", storage=open_storage(None, folder / "out"))


def states(folder: Path) -> set[TrialState]:
    study = stored_study(folder)
    return {trial.state for trial in study.trials} if study else set()


def budget_with_lost_steps(folder: Path) -> float:
    """What the stopped training had done counts: so much more pays for the search that was not interrupted."""
    study = stored_study(folder)
    lost = study.user_attrs.get(LOST_STEPS, 0) if study else 0
    return float(SETTINGS["budget"]) + (lost + 0.5) / SETTINGS["max_steps"]


@pytest.mark.parametrize("share", [(number + 0.5) / PRESSES for number in range(PRESSES)])
def test_ctrl_c_after_any_share_of_the_time(
    share: float, undisturbed: tuple[SearchResult, float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    make_database(tmp_path)
    try:
        with pressed_after(share * seconds):
            run_search(tmp_path, Classifier, **SETTINGS)
    except KeyboardInterrupt:
        assert TrialState.RUNNING not in states(tmp_path)
        assert "RUNNING" not in Tracked(tmp_path).states
    found = run_search(tmp_path, Classifier, **{**SETTINGS, "budget": budget_with_lost_steps(tmp_path)})
    tracked = Tracked(tmp_path)

    columns = ["number", "state", "value", "steps", "lr"]
    # not to the last digit: on one kind of processor a process that loads a state rounds otherwise
    assert_frame_equal(found.trials[columns], expected.trials[columns], rtol=1e-6)
    assert found.steps_spent <= found.budget_steps
    assert tracked.parent.info.status == "FINISHED"
    assert len(tracked.children) == len(found.trials)
    for run, steps in zip(tracked.children, found.trials["steps"], strict=True):
        assert [step for step, _ in tracked.curve(run, "train/loss")] == list(range(1, steps + 1))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".lock",
        "best.ckpt",
        "best_recipe.yaml",
        "study.journal",
    }


def test_ctrl_c_waits_until_the_folders_lock_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = FileLock.release
    is_let_go = []

    def pressed_meanwhile(self: FileLock, force: bool = False) -> None:
        is_the_folders = Path(self.lock_file).name == ".lock"
        if is_the_folders:
            signal.raise_signal(signal.SIGINT)
        let_go(self, force)
        if is_the_folders:
            is_let_go.append(not self.is_locked)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("opttune.storages.open_storage.FileLock.release", pressed_meanwhile)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_search(tmp_path, Classifier, **{**SETTINGS, "budget": 1}, baseline=False)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert is_let_go == [True]


def test_ctrl_c_of_which_a_library_makes_its_own_error_is_still_ctrl_c(tmp_path: Path) -> None:
    class Swallowing(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.global_step == 5:
                try:
                    signal.raise_signal(signal.SIGINT)
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt:
                    raise RuntimeError("as a C++ extension would say it") from None
            return super().training_step(batch, batch_idx)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_search(tmp_path, Swallowing, **SETTINGS, baseline=False, study="Classifier-tiny")
    finally:
        signal.signal(signal.SIGINT, usual)
    assert states(tmp_path) == {TrialState.WAITING}
    assert "FAILED" not in Tracked(tmp_path).states


def test_without_pauses_an_interrupted_trial_is_trained_first_or_the_answer_names_it(tmp_path: Path) -> None:
    halfway = 0

    class Interrupted(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            nonlocal halfway
            halfway += self.trainer.global_step == 5
            if halfway == 3 and self.trainer.global_step == 5:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    settings = {"data": loaders, "space": make_space(FAR_APART), "max_steps": 10, "pauses": False, "baseline": False}
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path, Interrupted, **settings, budget=3)

    found = run_search(tmp_path, Interrupted, **settings, budget=3)
    assert list(found.trials["state"]) == ["complete", "complete", "waiting"]
    assert found.warnings[-1].startswith("trial 2 was interrupted, and the search reached its limits")

    found = run_search(tmp_path, Interrupted, **settings, budget=3.5)
    assert list(found.trials["state"]) == ["complete", "complete", "complete"]
    assert not any("interrupted" in warning for warning in found.warnings)
