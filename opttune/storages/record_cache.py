"""The trials of a study as records; an ended trial is parsed once."""

from typing import Any, NamedTuple

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from opttune.storages.journal import JournalFile
from opttune.storages.records import HOLDER, LOST_STEPS, RUNGS, STOPPED_AT, read_trial
from opttune.trial_record import TrialRecord


class RecordCache:
    """The trials of one study.

    Optuna never changes an ended trial, so its record is not read again. The record of any other trial is kept until
    something is written to the trial.

    Args:
        storage: The study's storage.
        study_id: The study's id in it.

    Attributes:
        steps_done: Optimizer steps of all trials, at the last reading.
        seconds_done: Wall time of their trainings, at the last reading.
    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id
        self._records: list[TrialRecord] = []
        self._open: dict[int, FrozenTrial] = {}
        self._read: dict[int, _Read] = {}
        self.steps_done, self.seconds_done = 0, 0.0
        self._lines_read: int | None = None

    def all(self) -> list[TrialRecord]:
        """Return the current records of all trials, in their order, in a new list."""
        self.refresh()
        return list(self._records)

    def open(self) -> list[TrialRecord]:
        """Return the current records of the trials that have not ended, in their order."""
        self.refresh()
        return [self._records[number] for number in self._open]

    def refresh(self) -> None:
        """Read all new writes."""
        lines_read = self._count_lines()
        if lines_read is not None and lines_read == self._lines_read:
            return
        self._read_all()
        self._lines_read = lines_read

    def _count_lines(self) -> int | None:
        """Return the number of lines in the journal; None if the study is not in one."""
        if not isinstance(self._storage, JournalFile):
            return None
        # this reads the writes of others
        self._storage.get_study_user_attrs(self._study_id)
        return self._storage.lines_read

    def _read_all(self) -> None:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        # a storage returns the same object until something is written to the trial
        written = [number for number, seen in self._open.items() if trials[number] is not seen]
        new = range(len(self._records), len(trials))
        self.steps_done -= sum(self._records[number].steps_done for number in written)
        self.seconds_done -= sum(self._records[number].seconds for number in written)
        self._records += [self.one(trials[number]) for number in new]
        for number in (*written, *new):
            self._records[number], self._open[number] = self.one(trials[number]), trials[number]
            self.steps_done += self._records[number].steps_done
            self.seconds_done += self._records[number].seconds
            if trials[number].state.is_finished():
                del self._open[number]

    def one(self, trial: FrozenTrial) -> TrialRecord:
        """Return a trial as a record, the same object as before if nothing was written since."""
        known = self._read.get(trial.number)
        if known is not None and known.trial is trial:
            return known.record
        words = trial.user_attrs
        # every later write adds a word, or changes one of these
        changing = [words.get(name) for name in (STOPPED_AT, LOST_STEPS, HOLDER)]
        mark = (trial.state, len(words), len(words.get(RUNGS, ())), *changing)
        record = known.record if known is not None and known.mark == mark else read_trial(trial)
        self._read[trial.number] = _Read(trial, mark, record)
        return record


class _Read(NamedTuple):
    """A trial as it was read, and the values that show whether its record is still valid."""

    trial: FrozenTrial
    mark: tuple[Any, ...]
    record: TrialRecord
