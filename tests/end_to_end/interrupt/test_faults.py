"""What goes wrong in a long search, and what is left then: memory, disk, the user's code, signals."""

import multiprocessing
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch.utils.data import DataLoader

from opttune.errors import DiskFullError
from opttune.storages.open_storage import open_storage
from opttune.storages.records import OUTCOME
from opttune.study.result import SearchResult
from tests.support.search_models import Classifier, loaders, make_points
from tests.support.searches import WILD, Tracked, make_database, make_space, run_search

pytestmark = pytest.mark.slow


class NeedsMuchMemory(Classifier):
    """Has too little memory for large rates, as another optimizer would have."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == 2 and self.trainer.optimizers[0].param_groups[0]["lr"] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().training_step(batch, batch_idx)


class NeedsTooMuchMemory(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == 4:
            raise MemoryError("of the machine")
        return super().training_step(batch, batch_idx)


def test_a_recipe_without_enough_memory_is_infeasible_and_remembered_and_the_search_continues(tmp_path: Path) -> None:
    needs_much_first = make_space(WILD.replace("prior: 1e-3", "prior: 1e3"))
    found = run_search(tmp_path, NeedsMuchMemory, data=loaders, space=needs_much_first, budget=5)
    tracked = Tracked(tmp_path)
    infeasible = [trial for trial in found.study.trials if trial.user_attrs[OUTCOME]["reason"] == "out_of_memory"]

    assert infeasible
    assert found.best_recipe is not None
    assert found.best_recipe.optimizer["lr"] == 1e-3
    for trial in infeasible:
        assert trial.state is TrialState.PRUNED
        assert trial.value is not None
        assert isfinite(trial.value)
        assert trial.value > 1e9
        run = tracked.children[trial.number]
        assert (run.info.status, run.data.tags["opttune.state"]) == ("KILLED", "out_of_memory")
        assert "traceback.txt" in tracked.artifacts(run)


def test_a_model_that_is_too_large_for_every_recipe_ends_the_search_with_its_reason(tmp_path: Path) -> None:
    found = run_search(tmp_path, NeedsTooMuchMemory, data=loaders, baseline=False, budget=20)

    assert len(found.trials) == 3
    assert "the last 3 trials failed alike: MemoryError: of the machine" in found.warnings[0]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


SETTINGS: dict[str, Any] = {"data": loaders, "budget": 7, "study": "s", "baseline": False}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return run_search(tmp_path_factory.mktemp("undisturbed"), Classifier, **SETTINGS)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first trials; its journal is larger than MLflow's file, so that it meets a limit first."""
    folder = tmp_path_factory.mktemp("begun")
    run_search(folder, Classifier, **{**SETTINGS, "budget": 3})
    study = optuna.load_study(study_name="s", storage=open_storage(None, folder / "out"))
    study.set_user_attr("of_the_user", "x" * 2 * (folder / "mlflow.db").stat().st_size)
    return folder


@pytest.mark.parametrize("more", [10, 700, 2500, 6000])
def test_a_full_disk_is_said_and_once_there_is_space_the_search_resumes(
    more: int, undisturbed: SearchResult, begun: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(begun, tmp_path / "begun"))
    with (
        no_file_larger_than((folder / "out" / "study.journal").stat().st_size + more),
        pytest.raises(DiskFullError, match=r"the disk is full.*free some space"),
    ):
        run_search(folder, Classifier, **SETTINGS)
    found = run_search(folder, Classifier, **SETTINGS)

    assert found.trials[["number", "value", "lr"]].equals(undisturbed.trials[["number", "value", "lr"]])
    assert {trial.state for trial in found.study.trials} == {TrialState.COMPLETE}


def with_workers() -> Any:
    train = DataLoader(make_points(128, 0), batch_size=16, shuffle=True, num_workers=2, persistent_workers=True)
    return train, DataLoader(make_points(64, 1), batch_size=64, num_workers=1)


def test_data_loaders_with_processes_of_their_own_leave_none_behind(tmp_path: Path) -> None:
    found = run_search(tmp_path, Classifier, data=with_workers, budget=3, baseline=False)
    until = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.1)

    assert set(found.trials["state"]) == {"complete"}
    assert multiprocessing.active_children() == []


class Terminated(Classifier):
    """Gets a signal in a validation, or while its state is saved."""

    where = ""
    number = signal.SIGTERM

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self._signal("validation")

    def on_save_checkpoint(self, checkpoint: Any) -> None:
        self._signal("checkpoint")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self._signal("fit")
        return super().training_step(batch, batch_idx)

    def _signal(self, where: str) -> None:
        if where == Terminated.where and self.trainer.global_step >= 10:
            Terminated.where = ""
            signal.raise_signal(Terminated.number)
            # long enough to see that nothing continues after it
            time.sleep(0.05)


OF_TWO: dict[str, Any] = {**SETTINGS, "max_steps": 40, "budget": 2}


@pytest.fixture(scope="module")
def without_a_signal(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return run_search(tmp_path_factory.mktemp("undisturbed"), Terminated, **OF_TWO)


@pytest.mark.parametrize("where", ["fit", "validation", "checkpoint"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_place_stops_the_search_soon_and_it_resumes(
    number: signal.Signals, where: str, without_a_signal: SearchResult, tmp_path: Path
) -> None:
    Terminated.where, Terminated.number = where, number
    make_database(tmp_path)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_search(tmp_path, Terminated, **OF_TWO)
    finally:
        signal.signal(signal.SIGINT, usual)
    seconds = time.monotonic() - started
    states = Tracked(tmp_path).states
    found = run_search(tmp_path, Terminated, **OF_TWO)

    assert Terminated.where == ""
    assert seconds < 60
    assert "RUNNING" not in states
    columns = ["number", "state", "value", "lr"]
    assert found.trials[columns].equals(without_a_signal.trials[columns])
    # its state was saved after the step, so nothing was trained twice
    assert found.steps_spent == without_a_signal.steps_spent
