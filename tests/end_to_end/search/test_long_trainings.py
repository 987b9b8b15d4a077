"""Whole searches of long trainings: a race by looks, one training to the end, and what a user reads of it."""

import signal
from pathlib import Path
from typing import Any

import pytest
from pandas.testing import assert_frame_equal

from opttune.algorithms.rungs import FOR_LONG_TRAININGS
from opttune.length_transfer.transfer import transfer_study
from opttune.storages.open_storage import open_storage
from opttune.storages.study_store import StudyStore
from opttune.study.frozen_study import load_study
from opttune.study.result import SearchResult
from opttune.training.decayed_look import DecayToEnd
from tests.support.search_models import Classifier, loaders
from tests.support.searches import Tracked, make_space, run_search

pytestmark = pytest.mark.slow

LENGTH = 1_200
RUNGS = FOR_LONG_TRAININGS.steps(LENGTH)
SPACE = make_space("""
optimizer:
  adamw: {lr: {low: 1e-4, high: 1e-1, log: true, prior: 1e-2, source: test}}
  sgd: {lr: {low: 1e-3, high: 1.0, log: true, prior: 1e-1, source: test}}
schedule: {constant: {}}
""")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("long")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return run_search(folder, Classifier, data=loaders, space=SPACE, max_steps=LENGTH, budget=1.9, study="long")


def test_every_optimizer_is_looked_at_before_one_is_trained(folder: Path, result: SearchResult) -> None:
    records = load_study(folder / "out").records
    first = min(record.steps_spent for record in records if record.value is not None)

    assert {record.optimizer for record in records} == {"adamw", "sgd"}
    assert all(record.pauses[0].steps == RUNGS[0] for record in records if record.pauses)
    assert all(record.pauses[0].look_steps == RUNGS[0] // 5 for record in records if record.pauses)
    assert first > sum(record.pauses[0].steps for record in records if record.pauses)


def test_the_budget_pays_for_the_looks_too(folder: Path, result: SearchResult) -> None:
    records = load_study(folder / "out").records

    assert result.steps_spent <= 1.9 * LENGTH
    assert result.steps_spent == sum(
        record.steps + sum(pause.look_steps for pause in record.pauses) for record in records
    )


def test_one_is_trained_to_the_end_and_the_baseline_is_said_to_be_missing(result: SearchResult) -> None:
    assert result.best_value is not None
    assert result.baseline_value is None
    assert any("does not pay for the baseline" in warning for warning in result.warnings)


def test_curves_hold_no_step_of_a_look(folder: Path, result: SearchResult) -> None:
    tracked = Tracked(folder)

    for run in tracked.children:
        steps = [step for step, _ in tracked.curve(run, "train/loss")]
        assert steps == sorted(set(steps))
        assert max(steps) <= int(run.data.tags.get("opttune.steps", LENGTH))


def test_its_recipe_is_moved_to_another_length(folder: Path, result: SearchResult) -> None:
    found = transfer_study(str(folder / "out"), "4x")
    (best,) = (record for record in load_study(folder / "out").records if record.value is not None)

    assert (found.trained_steps, found.steps, found.value) == (LENGTH, 4 * LENGTH, result.best_value)
    assert found.recipe.optimizer.rate < result.best_recipe.optimizer.rate
    # each look counts as a training of its own length, decay included; this one overfits
    assert found.expected is None
    assert "val_loss does not fall with the length" in found.basis[0]
    assert all(
        f"{pause.value:.5g} at {pause.optimizer_steps + pause.look_steps}" in found.basis[0] for pause in best.pauses
    )
    assert "passed over 150 times at the searched length, 600 at the new one" in found.facts[0]


WITH_OWN = make_space("""
optimizer:
  adamw: {lr: {low: 1e-4, high: 1e-1, log: true, prior: 1e-2, source: test}}
  own: {lr_factor: {low: 0.1, high: 10, log: true, prior: 1.0, source: test}}
schedule: {constant: {}}
""")


def test_the_baseline_and_another_trial_are_trained_within_the_budget(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": loaders, "space": WITH_OWN, "max_steps": LENGTH}
    less = run_search(tmp_path, Classifier, **settings, budget=2.0)
    records = load_study(tmp_path / "out").records
    first = min(record.steps_spent for record in records if record.value is not None)
    looks = [record.pauses[0] for record in records if record.pauses]

    # enough for the looks as well, and the baseline is one of them
    assert sum(look.steps + look.look_steps for look in looks) >= 0.3 * LENGTH
    assert first >= LENGTH + 0.3 * LENGTH
    assert any(record.is_baseline and record.pauses for record in records)
    assert less.steps_spent <= 2.0 * LENGTH
    assert less.baseline_value is not None or any(
        "does not pay for the baseline" in warning for warning in less.warnings
    )

    result = run_search(tmp_path, Classifier, **settings, budget=3.0)
    records = load_study(tmp_path / "out").records
    finished = [record for record in records if record.value is not None]
    assert len(finished) >= 2
    assert any(record.is_baseline for record in finished)
    assert result.steps_spent <= 3.0 * LENGTH


def test_a_look_in_which_ctrl_c_came_is_repeated(
    tmp_path: Path, folder: Path, result: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    decay = DecayToEnd.on_train_batch_start
    # in a first look, in its repetition, and at the second rung
    pressed_at = [RUNGS[0] + 5, RUNGS[0] + 9, RUNGS[1] + 3]

    def on_train_batch_start(self: DecayToEnd, trainer: Any, *given: Any) -> None:
        decay(self, trainer, *given)
        if pressed_at and trainer.global_step == pressed_at[0]:
            del pressed_at[0]
            signal.raise_signal(signal.SIGINT)

    settings = {"data": loaders, "space": SPACE, "max_steps": LENGTH, "budget": 1.9, "study": "long"}
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(DecayToEnd, "on_train_batch_start", on_train_batch_start)
    try:
        for rung in (RUNGS[0], RUNGS[0], RUNGS[1]):
            with pytest.raises(KeyboardInterrupt):
                run_search(tmp_path, Classifier, **settings)
            stopped = [one for one in load_study(tmp_path / "out").records if one.stopped_at > one.steps]
            assert [one.stopped_at for one in stopped] == [rung]
    finally:
        signal.signal(signal.SIGINT, usual)
    # what the stopped looks had done counts
    lost = sum(one.lost_steps for one in load_study(tmp_path / "out").records)
    found = run_search(tmp_path, Classifier, **{**settings, "budget": 1.9 + (lost + 0.5) / LENGTH})

    columns = ["number", "state", "reason", "value", "steps"]
    assert_frame_equal(found.trials[columns], result.trials[columns], rtol=1e-6)
    assert looks_of(tmp_path) == pytest.approx(looks_of(folder))
    assert found.steps_spent == result.steps_spent + lost
    # each stops after the step in which it came
    assert lost == 6 + 10 + 4


def looks_of(folder: Path) -> list[float | None]:
    records = load_study(folder / "out").records
    return [number for one in records for each in one.pauses for number in (each.steps, each.look_steps, each.value)]


def test_a_study_of_before_keeps_its_rungs(folder: Path, result: SearchResult) -> None:
    before = load_study(folder / "out")
    assert before.config.rungs(LENGTH) == RUNGS

    store = StudyStore("long", open_storage(None, folder / "out"), before.store.study.user_attrs["opttune.spec"])
    stored = dict(store.attributes["opttune.space"])
    del stored["races"]
    store.study.set_user_attr("opttune.space", stored)
    assert load_study(folder / "out").config.rungs(LENGTH) == (120, 420, LENGTH)
