"""What the loop keeps, and in which order it trains, with an engine that answers at once."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from opttune.confirming.candidates import Candidate, choose_candidates
from opttune.confirming.loop import Confirmation
from opttune.errors import StudyError
from opttune.outcome import Outcome, StopReason
from opttune.runtime.signals import DeferredInterrupts
from opttune.storages.records import CONFIRMED
from opttune.study.frozen_study import FrozenStudy
from opttune.tracking.study_run import StudyRun, open_study_run
from tests.support.records import record, stored
from tests.support.searches import Tracked, make_database


@pytest.fixture
def run(tmp_path: Path) -> Any:
    uri = make_database(tmp_path)
    run = open_study_run(tracking_uri=uri, study_name="s", spool_dir=tmp_path / "spool", run_id=None)
    yield run
    run.end()
    run.close()


def confirm(study: FrozenStudy, run: StudyRun, engine: Any, seeds: list[int]) -> list[tuple[str, int]]:
    told: list[tuple[str, int]] = []
    candidates = choose_candidates(study, top=1)

    def tell(place: int, count: int, candidate: Candidate, seed: int, outcome: Outcome) -> None:
        told.append((candidate.label, seed))

    with DeferredInterrupts() as interrupts:
        Confirmation(study, candidates, seeds, {"accelerator": "cpu"}, engine, run, interrupts, tell).run()
    return told


class Engine:
    def __init__(self, steps: int = 100) -> None:
        self.attempts: list[Any] = []
        self.steps = steps

    def __call__(self, attempt: Any, listener: Any) -> Outcome:
        self.attempts.append(attempt)
        return Outcome(StopReason.COMPLETED, 0.5, self.steps, self.steps, 1.0)


def test_all_candidates_are_trained_on_a_seed_before_the_next(run: StudyRun) -> None:
    study, engine = stored([record(0, 0.5)]), Engine()
    told = confirm(study, run, engine, [1, 2])

    # a verdict that is broken off has whole pairs
    assert [seed for _, seed in told] == [1, 1, 1, 2, 2, 2]
    assert [label for label, _ in told][:3] == ["adamw 1e-3", "your optimizer", "AdamW's default"]
    first = engine.attempts[0]
    assert (first.seed, dict(first.trainer), first.monitor, first.mode) == (
        1, {"accelerator": "cpu", "max_steps": 100}, "val_loss", "min",
    )  # fmt: skip
    assert engine.attempts[1].recipe is None
    assert first.until_step is first.resume_from is first.checkpoint is None


def test_each_training_is_kept_before_it_begins_and_when_it_ends(run: StudyRun) -> None:
    study = stored([record(0, 0.5)])

    def dies(attempt: Any, listener: Any) -> Outcome:
        kept = study.study.user_attrs[CONFIRMED]["trainings"]
        assert kept[-1]["outcome"] is None
        assert kept[-1]["run_key"]
        if len(kept) == 2:
            raise RuntimeError("killed")
        return Outcome(StopReason.COMPLETED, 0.5, 100, 100, 1.0)

    with pytest.raises(RuntimeError):
        confirm(study, run, dies, [1])
    kept = study.study.user_attrs[CONFIRMED]["trainings"]
    assert [training["outcome"] is None for training in kept] == [False, True]


def test_a_run_that_a_kill_left_open_is_gone_on_with(run: StudyRun, tmp_path: Path) -> None:
    study = stored([record(0, 0.5)])
    candidate = choose_candidates(study, top=1)[0]
    run._open("key of the killed", "s1", {"opttune.role": "confirmation"})
    training = {"recipe": candidate.to_dict()["recipe"], "seed": 1, "run_key": "key of the killed", "outcome": None}
    left = stored([record(0, 0.5)], confirmed={"candidates": [], "seeds": [], "trainings": [training]})
    confirm(left, run, Engine(), [1])
    run.flush()

    tracked = Tracked(tmp_path)
    (same,) = (each for each in tracked.confirmations if each.data.tags["opttune.key"] == "key of the killed")
    assert same.info.status == "FINISHED"
    assert len(tracked.confirmations) == 3


def test_another_length_is_refused(run: StudyRun) -> None:
    with pytest.raises(StudyError, match="now a full training has 70"):
        confirm(stored([record(0, 0.5)]), run, Engine(steps=70), [1])


def test_a_study_keeps_what_json_can_hold(run: StudyRun, tmp_path: Path) -> None:
    study = stored([record(0, 0.5)])
    confirm(study, run, Engine(), [1])
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'o.db'}")
    copy = optuna.create_study(storage=storage)
    copy.set_user_attr(CONFIRMED, study.study.user_attrs[CONFIRMED])

    assert copy.user_attrs[CONFIRMED] == study.study.user_attrs[CONFIRMED]
