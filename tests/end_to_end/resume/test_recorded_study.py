"""Studies that an earlier version of opttune made: they are read, exported, confirmed and continued.

`recorded/finished` is a search of 16 trainings with its verdict on two seeds, `recorded/interrupted` the same search
stopped in its third trial. Both are of the format in which the baseline, replicates and confirmations were attributes
of the study (July to November 2026).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from opttune.confirming.verdict import study_verdict
from opttune.job import Role
from opttune.study.frozen_study import FrozenStudy, load_study
from tests.support import recorded
from tests.support.searches import Tracked, make_database, run_command

RECORDED = Path(recorded.__file__).parent
SEARCH = (
    "search", "line.py:Line", "--space", "adamw", "--max-steps", "60", "--study", "recorded", "--engine", "inline",
    "--no-report", "--json",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_database(tmp_path)
    return Path(shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True))


def trials(study: FrozenStudy) -> list[tuple[int, str, float | None]]:
    return [(record.number, record.state, record.value) for record in study.records]


def test_all_that_it_holds_is_read() -> None:
    study = load_study(RECORDED / "finished")
    best, verdict = study.best, study_verdict(study)

    assert len(study.records) == 15
    # no trial beats the baseline, which is handed out today
    assert best is not None
    assert best.is_baseline
    assert (study.ranked[0].number, study.ranked[0].value) == (6, pytest.approx(0.5602225661277771))
    assert study.baseline is not None
    assert study.baseline.value == pytest.approx(0.5062181353569031)
    assert [run.role for run in study.runs].count(Role.REPLICATE) == 2
    assert {record.number for record in study.records if record.replicates} == {2, 6}
    assert study.steps_spent == 924
    assert verdict is not None
    assert verdict.seeds == (2, 3)
    assert [len(candidate.values) for candidate in verdict.results] == [2, 2, 2, 2]


@pytest.mark.slow
def test_it_is_reported_and_exported(folder: Path) -> None:
    reported = run_command(folder, "report", "finished", "--json")
    exported = run_command(folder, "export", "finished", "--trial", "6", "--format", "recipe", "--json")

    assert reported.returncode == exported.returncode == 0, reported.stderr + exported.stderr
    assert (folder / "finished" / "report.html").exists()
    assert "name: adamw" in json.loads(exported.stdout)["text"]


@pytest.mark.slow
def test_it_is_confirmed_on_a_further_seed_by_two_workers(folder: Path) -> None:
    before = load_study(RECORDED / "finished")
    done = run_command(folder, "confirm", "finished", "--top", "2", "--seeds", "3", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    known = {
        (run.auxiliary.label or str(run.recipe), run.auxiliary.seed): run.value
        for run in before.runs
        if run.auxiliary is not None and run.role is Role.CONFIRMATION
    }

    assert verdict["seeds"] == [2, 3, 4]
    assert all(len(candidate["values"]) == 3 for candidate in verdict["candidates"])
    # what was trained before is not trained again
    assert len(known) == 8
    assert len(Tracked(folder).confirmations) == 4


@pytest.mark.slow
def test_a_larger_budget_continues_it(folder: Path) -> None:
    before = trials(load_study(RECORDED / "finished"))
    done = run_command(folder, *SEARCH, "--budget", "18", "--out-dir", "finished")
    assert done.returncode == 0, done.stderr
    study = load_study(folder / "finished")

    assert trials(study)[: len(before)] == before
    assert len(study.records) > len(before)
    assert study.baseline is not None
    assert [run.role for run in study.runs].count(Role.BASELINE) == 1


@pytest.mark.slow
def test_an_interrupted_one_continues_from_its_checkpoints(folder: Path) -> None:
    done = run_command(folder, *SEARCH, "--budget", "16", "--out-dir", "interrupted")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    expected = load_study(RECORDED / "finished")

    # another machine may round otherwise, and a later trial follows from it
    for row, record in list(zip(answer["trials"], expected.records, strict=False))[:3]:
        assert row["value"] == pytest.approx(record.value, rel=1e-4)
    assert answer["baseline_value"] == pytest.approx(0.5062181353569031, rel=1e-4)
    assert answer["steps_spent"] <= answer["budget_steps"]
