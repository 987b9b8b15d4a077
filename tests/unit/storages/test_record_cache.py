from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from opttune.outcome import Outcome, StopReason
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.record_cache import RecordCache
from opttune.storages.records import HOLDER, OUTCOME, RUNGS, STOPPED_AT, read_trial
from opttune.trial_record import TrialRecord

PAUSED = Outcome(StopReason.PAUSED, 0.5, 10, 100, 1.0)
DONE = Outcome(StopReason.COMPLETED, 0.25, 100, 100, 1.0)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


@pytest.fixture(params=["journal", "sqlite"])
def studies(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[optuna.Study, optuna.Study]:
    """One study as two processes see it."""
    url = None if request.param == "journal" else f"sqlite:///{tmp_path / 'optuna.db'}"
    first = optuna.create_study(study_name="s", storage=open_storage(url, tmp_path))
    return first, optuna.load_study(study_name="s", storage=open_storage(url, tmp_path))


def records_of(study: optuna.Study) -> RecordCache:
    return RecordCache(study._storage, study._study_id)


def fresh(study: optuna.Study) -> list[TrialRecord]:
    return [read_trial(trial) for trial in study.get_trials()]


def test_whatever_another_process_writes_is_seen(studies: tuple[optuna.Study, optuna.Study]) -> None:
    other, own = studies
    records = records_of(own)
    trials = [other.ask() for _ in range(3)]
    assert records.all() == fresh(own)
    for change in (
        lambda: trials[0].set_user_attr(HOLDER, "one"),
        lambda: trials[0].set_user_attr(HOLDER, "two"),
        lambda: trials[1].set_user_attr(RUNGS, [PAUSED.to_dict()]),
        lambda: trials[1].set_user_attr(STOPPED_AT, 12),
        lambda: trials[1].set_user_attr(STOPPED_AT, 20),
        lambda: other._storage.set_trial_state_values(trials[1]._trial_id, TrialState.WAITING),
        lambda: trials[2].set_user_attr(OUTCOME, DONE.to_dict()),
        lambda: other.tell(trials[2], 0.25),
        lambda: other.ask(),
    ):
        before = records.all()
        change()
        after = records.all()
        assert after == fresh(own)
        assert after != before
        assert records.steps_done == sum(record.steps_done for record in after)
        assert records.open() == [record for record in fresh(own) if record.state in ("running", "waiting")]


def test_the_list_is_the_callers_own_and_a_trial_that_has_ended_is_read_once(
    studies: tuple[optuna.Study, optuna.Study],
) -> None:
    other, own = studies
    trial = other.ask()
    trial.set_user_attr(OUTCOME, DONE.to_dict())
    other.tell(trial, 0.25)
    records = records_of(own)
    first = records.all()
    kept = first.pop()

    assert records.all()[0] is kept
    assert records.open() == []


@pytest.mark.slow
def test_a_trial_that_was_read_alone_in_between_is_up_to_date_among_all(
    studies: tuple[optuna.Study, optuna.Study],
) -> None:
    other, own = studies
    trial = other.ask()
    records = records_of(own)
    records.all()
    trial.set_user_attr(RUNGS, [PAUSED.to_dict()])
    alone = records.one(own._storage.get_trial(trial._trial_id))

    assert alone.pauses == (PAUSED,)
    assert records.all() == [alone]
