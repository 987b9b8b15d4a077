"""What the tests of searches share: spaces, a fresh database, the command, and MLflow read back."""

import atexit
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

import opttune
from opttune.space.model import Space
from opttune.space.parse import parse_space
from opttune.study.result import SearchResult
from opttune.tracking.settings import Tracking
from tests.support.warm import WarmProcess, run_warm

MODULES = Path(__file__).with_name("search_models.py")

TINY = """
description: one optimizer, small
optimizer:
  adamw:
    lr: {low: 1e-3, high: 1e-1, log: true, prior: 1e-2, source: test}
    weight_decay: {choices: [0.0, 0.1], source: test}
schedule:
  constant: {}
  linear:
    warmup_fraction: {choices: [0.0, 0.1], source: test}
"""

WILD = """
description: half of it diverges
optimizer:
  sgd:
    lr: {choices: [1e-3, 1e3], prior: 1e-3, source: test}
    weight_decay: {low: 1e-6, high: 1e-4, log: true, source: test}
schedule: {constant: {}}
"""


def make_space(text: str, name: str = "tiny") -> Space:
    return parse_space(text, name, where=f"{name}.yaml")


def write_space(folder: Path, text: str, name: str = "tiny") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


@cache
def _empty_database() -> bytes:
    # setting one up takes seconds, so the processes of a test run make one and copy it
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    folder = Path(tempfile.gettempdir()) / f"opttune-tests-{run}"
    folder.mkdir(exist_ok=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # the first process sets it up; every one loads what MLflow maps, of which SQLAlchemy warns
    with FileLock(folder / "lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable()
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        logging.disable(logging.NOTSET)
        # the process that ends first removes it
        return (folder / "mlflow.db").read_bytes()


def make_database(folder: Path) -> str:
    """Put an empty database into a folder and return its address."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlflow.db").write_bytes(_empty_database())
    return f"sqlite:///{folder / 'mlflow.db'}"


def run_search(folder: Path, model: Any, **settings: Any) -> SearchResult:
    """Search with all files in a folder."""
    if not (folder / "mlflow.db").exists():
        make_database(folder)
    places = {"out_dir": folder / "out", "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "progress": False}
    # drawing takes seconds
    defaults: dict[str, Any] = {
        "space": make_space(TINY),
        "max_steps": 20,
        "budget": 5,
        "tracking": Tracking(report=False),
    }
    return opttune.search(model, **{**places, **defaults, **settings})


class Tracked:
    """What a search has left in the MLflow database of a folder."""

    def __init__(self, folder: Path) -> None:
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        ids = [experiment.experiment_id for experiment in self.client.search_experiments(view_type=ViewType.ALL)]
        runs = list(self.client.search_runs(ids, max_results=1000)) if ids else []
        self.runs = runs
        self.parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        self.confirmations = [run for run in runs if run.data.tags.get("opttune.role") == "confirmation"]
        children = [run for run in runs if run.data.tags.get("opttune.role") == "trial"]
        self.children = sorted(children, key=lambda run: int(run.data.tags["opttune.trial"]))
        self.states = [run.info.status for run in runs]

    @property
    def parent(self) -> Run:
        (parent,) = self.parents
        return parent

    def curve(self, run: Run, name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, name)]

    def artifacts(self, run: Run) -> set[str]:
        return {found.path for found in self.client.list_artifacts(run.info.run_id)}


def command_line(*arguments: str | Path) -> list[str]:
    """Return the command as a fresh process has it."""
    return [sys.executable, "-m", "opttune", *map(str, arguments)]


def start_command(folder: Path, *arguments: str | Path, stderr: IO[Any] | None = None) -> WarmProcess:
    return WarmProcess(command_line(*arguments)[1:], folder, command_env(), stderr)


def command_env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(opttune.__file__).parents[1]), "COLUMNS": "120", **more}


def run_command(
    folder: Path, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return run_warm(command_line(*arguments)[1:], folder, command_env(**(env or {})))
