"""The trials of a study as records; one that has ended is read once."""

from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from opttune.searching.record import HOLDER, LOST_STEPS, RUNGS, STOPPED_AT, TrialRecord


class TrialRecords:
    """The trials of one study.

    Optuna lets nobody change a trial that has ended, so that its record stays; of the others what was read stands
    until something is written.

    Args:
        storage: Where the study is.
        study_id: Its id there.
    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id
        self._records: list[TrialRecord] = []
        self._open: set[int] = set()
        self._marks: dict[int, tuple[Any, ...]] = {}
        self._read: dict[int, TrialRecord] = {}

    def all(self) -> list[TrialRecord]:
        """Return all trials, in their order, as they are now; the list is the caller's own."""
        self._look()
        return list(self._records)

    def open(self) -> list[TrialRecord]:
        """Return the trials that have not ended, in their order, as they are now."""
        self._look()
        return [self._records[number] for number in sorted(self._open)]

    def _look(self) -> None:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        new = range(len(self._records), len(trials))
        self._records.extend(self.one(trials[number]) for number in new)
        for number in self._open:
            self._records[number] = self.one(trials[number])
        self._open.update(new)
        self._open = {number for number in self._open if not trials[number].state.is_finished()}

    def one(self, trial: FrozenTrial) -> TrialRecord:
        """Return a trial as a record, the same as before where nothing was written since."""
        words = trial.user_attrs
        # whatever is written later adds a word, or changes one of these
        changing = [words.get(name) for name in (STOPPED_AT, LOST_STEPS, HOLDER)]
        mark = (trial.state, len(words), len(words.get(RUNGS, ())), *changing)
        if self._marks.get(trial.number) != mark:
            self._marks[trial.number], self._read[trial.number] = mark, TrialRecord.of(trial)
        return self._read[trial.number]
