"""Optimizers and schedules of other packages: real packages, found by their entry points."""

import subprocess
import sys
from pathlib import Path

import pytest

from opttune.catalog import lookup, plugins
from tests.support.searches import command_env

ROWS = """
import torch
from opttune.catalog import OptimizerInfo, OptionInfo, ScheduleInfo

ADAGRAD = OptimizerInfo("adagrad", torch.optim.Adagrad, "of a plug-in", (OptionInfo("lr", 1e-2),), "Duchi 2011")
TAKEN = OptimizerInfo("adamw", torch.optim.AdamW, "a second one", (OptionInfo("lr", 1e-2),), "nobody")
STAIRCASE = ScheduleInfo("staircase", lambda progress: 1 - int(progress * 4) / 4, "four steps down", (), "nobody")
NUMBER = 3
"""
POINTS = """
[opttune.optimizers]
adagrad = rows:ADAGRAD
broken = rows:NOWHERE
number = rows:NUMBER
taken = rows:TAKEN

[opttune.schedules]
staircase = rows:STAIRCASE
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip leaves it in a folder of its own."""
    (tmp_path / "rows.py").write_text(ROWS)
    info = tmp_path / "more_optimizers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-optimizers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    for shelf in (lookup._OPTIMIZERS, lookup._SCHEDULES):
        monkeypatch.setattr(shelf, "rows", dict(shelf.rows))
        monkeypatch.setattr(shelf, "_knows_plugins", False)
    return tmp_path


def test_rows_of_a_package_are_found_and_bad_ones_are_reported(installed: Path) -> None:
    with pytest.warns(UserWarning, match="left out") as warned:
        assert lookup.find_optimizer("adagrad").summary == "of a plug-in"
    assert lookup.optimizer_names()[-1] == "adagrad"
    assert lookup.find_optimizer("adamw").summary != "a second one"
    said = [str(warning.message) for warning in warned]
    start = "opttune: the optimizer of more-optimizers is left out: "
    assert [text.removeprefix(start) for text in said] == [
        "rows:NOWHERE cannot be loaded: AttributeError: module 'rows' has no attribute 'NOWHERE'.",
        "rows:NUMBER must be of type OptimizerInfo, got int.",
        "the name 'adamw' is taken.",
    ]


def test_a_schedule_of_a_package_is_listed(installed: Path) -> None:
    assert lookup.schedule_names()[-1] == "staircase"
    assert lookup.find_schedule("staircase").summary == "four steps down"


def test_packages_are_asked_once(installed: Path) -> None:
    lookup.schedule_names()
    (installed / "more_optimizers-1.0.dist-info" / "entry_points.txt").unlink()
    assert lookup.schedule_names()[-1] == "staircase"


def test_without_packages_there_are_no_rows() -> None:
    assert list(plugins.plugin_rows("schedule")) == []


@pytest.mark.slow
def test_a_new_process_knows_the_row_by_its_name(installed: Path) -> None:
    env = command_env()
    done = subprocess.run(
        [sys.executable, "-m", "opttune", "optimizers", "adagrad"],
        capture_output=True,
        text=True,
        env={**env, "PYTHONPATH": f"{env['PYTHONPATH']}:{installed}"},
    )
    assert done.returncode == 0, done.stderr
    assert "of a plug-in" in done.stdout
    assert "the name 'adamw' is taken" in done.stderr
