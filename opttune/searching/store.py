"""The stored study: Optuna's, with opttune's own records in it."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from opttune.errors import InputError, StudyError
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.searching.record import (
    BASELINE,
    LOST_STEPS,
    OUTCOME,
    PARENT_KEY,
    RECIPE,
    REPEATS,
    RUN_KEY,
    RUNGS,
    SPACE,
    SPEC,
    STEPS_SPENT,
    TrialRecord,
    bad_value,
    differences,
    told_state,
)
from opttune.space.parse import parse_space
from opttune.space.settle import SettledSpace
from opttune.tracking.address import safe_uri

_LONGEST_WRITE_SECONDS = 1.0
"""A journal's lock is held for one write, of milliseconds."""


class StudyStore:
    """One study in its storage.

    Args:
        name: Name of the study.
        storage: An open Optuna storage.
        spec: What the search is for: space, length, monitor, mode. A study that was made for another is refused.

    Raises:
        StudyError: The study was made for another search; the message names the difference.
    """

    def __init__(self, name: str, storage: BaseStorage, spec: Mapping[str, Any]) -> None:
        self.mode = str(spec["mode"])
        self._finished: dict[int, TrialRecord] = {}
        self.storage = storage
        self._direction = StudyDirection.MINIMIZE if self.mode == "min" else StudyDirection.MAXIMIZE
        if name in optuna.get_all_study_names(storage):
            self.study = optuna.load_study(study_name=name, storage=storage)
            self._refuse_another(name, spec)
        else:
            self.study = optuna.create_study(study_name=name, storage=storage, direction=self._direction)
            self.study.set_user_attr(SPEC, dict(spec))

    def _refuse_another(self, name: str, spec: Mapping[str, Any]) -> None:
        stored = self.study.user_attrs.get(SPEC)
        if stored is None and not self.study.get_trials(deepcopy=False) and self.study.directions == [self._direction]:
            # a search was killed between making the study and writing down what it is for
            self.study.set_user_attr(SPEC, dict(spec))
            return
        if stored is None:
            raise StudyError(f"the study {name!r} was not made by opttune search. Choose another name: --study NAME.")
        found = differences(stored, spec)
        if found:
            raise StudyError(
                f"the study {name!r} was made for another search ({'; '.join(found[:3])}). "
                "Ask for the same, or start a new one: --study NAME."
            )

    def settle_space(self, settled: SettledSpace, full_length_steps: int) -> SettledSpace:
        """Return the space that the study was made with; of a new study that is the one given.

        Raises:
            StudyError: A full training had another number of steps when the study was made.
        """
        stored = self.study.user_attrs.get(SPACE)
        if stored is None:
            stored = {
                "name": settled.space.name,
                "space": settled.space.to_dict(),
                "notes": list(settled.notes),
                "full_length_steps": full_length_steps,
            }
            self.study.set_user_attr(SPACE, stored)
        if stored["full_length_steps"] != full_length_steps:
            raise StudyError(
                f"the study {self.study.study_name!r} was made for trainings of {stored['full_length_steps']} steps, "
                f"now they have {full_length_steps}: its data or its Trainer changed. Start a new one: --study NAME."
            )
        return self.stored_space

    @property
    def stored_space(self) -> SettledSpace:
        """The space that the study was made with; a search of it has settled one."""
        stored = self.study.user_attrs[SPACE]
        # JSON is YAML
        text = json.dumps(stored["space"], ensure_ascii=False)
        return SettledSpace(parse_space(text, stored["name"]), tuple(stored["notes"]))

    def records(self) -> list[TrialRecord]:
        """Return all trials, in their order."""
        repeats = self._repeats()
        records = [self._record(trial) for trial in self.study.get_trials(deepcopy=False)]
        return [
            replace(record, repeats=repeats[record.number]) if record.number in repeats else record
            for record in records
        ]

    def _repeats(self) -> dict[int, tuple[Outcome, ...]]:
        stored = ((name.partition(f"{REPEATS}.")[2], value) for name, value in self.study.user_attrs.items())
        return {int(number): tuple(map(Outcome.from_dict, outcomes)) for number, outcomes in stored if number}

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        if not trial.state.is_finished():
            return TrialRecord.of(trial)
        # what is finished does not change, and reading a thousand trials takes time
        if trial.number not in self._finished:
            self._finished[trial.number] = TrialRecord.of(trial)
        return self._finished[trial.number]

    @property
    def baseline(self) -> Outcome | None:
        """What the module reached as it came, where that was tried."""
        stored = self.study.user_attrs.get(BASELINE)
        return None if stored is None else Outcome.from_dict(stored)

    @property
    def steps_spent(self) -> int:
        """Optimizer steps that the whole search has done, those of the baseline and of lost runs included."""
        own = sum(record.steps + sum(again.steps for again in record.repeats) for record in self.records())
        baseline = self.baseline
        return own + (baseline.steps if baseline else 0) + self._lost_steps

    @property
    def _lost_steps(self) -> int:
        return int(self.study.user_attrs.get(LOST_STEPS, 0))

    @property
    def parent_key(self) -> str:
        """Under which key tracking knows the search; made when it is first asked for."""
        key = self.study.user_attrs.get(PARENT_KEY)
        if key is None:
            key = uuid4().hex
            self.study.set_user_attr(PARENT_KEY, key)
        return str(key)

    def unfinished(self) -> list[FrozenTrial]:
        """Return the trials that a search left running when it was killed."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def take_up(self, number: int) -> None:
        """Make a trial wait: one that has begun nothing is the next that `ask` returns."""
        self.storage.set_trial_state_values(self._trial_id(number), TrialState.WAITING)

    def hold_paused(self) -> None:
        """Make the paused trials that wait for a search running ones, which `ask` does not return."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if RUNGS in trial.user_attrs:
                self.storage.set_trial_state_values(self._trial_id(trial.number), TrialState.RUNNING)

    def ask(self) -> optuna.Trial:
        """Return the next trial: one that waits to be taken up again, else a new one."""
        return self.study.ask()

    def note_recipe(self, trial: optuna.Trial, recipe: Recipe, run_key: str) -> None:
        """Write down what a trial is about to train."""
        trial.set_user_attr(RECIPE, recipe.to_dict())
        trial.set_user_attr(RUN_KEY, run_key)

    def note_baseline(self, outcome: Outcome) -> None:
        """Write down what the module reached as it came."""
        self.study.set_user_attr(BASELINE, outcome.to_dict())

    def note_lost(self, steps: int) -> None:
        """Count the optimizer steps of a training that somebody stopped."""
        self.study.set_user_attr(LOST_STEPS, self._lost_steps + steps)

    def note_pause(self, number: int, outcome: Outcome) -> None:
        """Write down that a trial waits at a rung; from here on it is not trained up to there again."""
        trial_id = self._trial_id(number)
        pauses = [pause.to_dict() for pause in self._at(number).pauses]
        self.storage.set_trial_intermediate_value(trial_id, outcome.steps, outcome.value or 0.0)
        self.storage.set_trial_user_attr(trial_id, RUNGS, [*pauses, outcome.to_dict()])

    def note_outcome(self, number: int, outcome: Outcome) -> None:
        """Write down what came of a trial; from here on it is not trained again."""
        trial_id = self._trial_id(number)
        spent = self.steps_spent + outcome.steps - self._at(number).steps
        self.storage.set_trial_user_attr(trial_id, STEPS_SPENT, spent)
        self.storage.set_trial_user_attr(trial_id, OUTCOME, outcome.to_dict())

    def note_repeat(self, number: int, outcome: Outcome) -> None:
        """Write down what a finished trial's recipe gave on one more seed."""
        # with the study, as a finished trial takes no more words
        so_far = [again.to_dict() for again in self._repeats().get(number, ())]
        self.study.set_user_attr(f"{REPEATS}.{number}", [*so_far, outcome.to_dict()])

    def run_key(self, number: int) -> str | None:
        """Return the key under which tracking knows a trial's run; None for a trial that has none yet."""
        key = self.study.get_trials(deepcopy=False)[number].user_attrs.get(RUN_KEY)
        return None if key is None else str(key)

    def _at(self, number: int) -> TrialRecord:
        return self._record(self.study.get_trials(deepcopy=False)[number])

    def tell(self, number: int, outcome: Outcome) -> None:
        """Tell Optuna what came of a trial."""
        state = told_state(outcome)
        if outcome.reason.is_divergence:
            # Optuna takes the last reported value for a pruned trial's own
            values = [record.value for record in self.records() if record.value is not None]
            bad = bad_value(outcome, self.mode, values)
            self.storage.set_trial_intermediate_value(self._trial_id(number), outcome.steps, bad)
        self.study.tell(number, outcome.value if state is TrialState.COMPLETE else None, state=state)

    def give_up(self, trial: optuna.Trial) -> None:
        """Close a trial that bad input has ended before it trained."""
        self.study.tell(trial, state=TrialState.FAIL)

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


def open_storage(url: str | None, out_dir: Path) -> BaseStorage:
    """Open where studies are kept.

    Args:
        url: Any database URL that Optuna takes; None for the journal file `study.journal` in `out_dir`.
        out_dir: The folder of the search, which this process holds (`sole_search`).

    Raises:
        InputError: The storage cannot be opened.
    """
    try:
        if url is None:
            _remove_lock_of_the_dead(out_dir / "study.journal.lock")
            return JournalStorage(JournalFileBackend(str(out_dir / "study.journal")))
        return RDBStorage(url)
    except Exception as err:  # drivers of databases raise what they like
        problem = safe_uri(f"the storage {url or out_dir} cannot be opened: {type(err).__name__}: {err}")
        raise InputError(problem) from None


def _remove_lock_of_the_dead(lock: Path) -> None:
    """Remove a journal's lock that a killed search left; Optuna itself would wait half a minute for it."""
    with suppress(OSError):
        taken = lock.lstat().st_mtime
        if time.time() - taken < _LONGEST_WRITE_SECONDS:
            time.sleep(_LONGEST_WRITE_SECONDS)
        if lock.lstat().st_mtime == taken:
            lock.unlink()


@contextmanager
def sole_search(out_dir: Path) -> Iterator[None]:
    """Hold a folder's search for this process; the hold ends with the process, however it ends.

    Raises:
        StudyError: Another process holds it.
    """
    lock = FileLock(out_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(f"another search is running in {out_dir}. Wait for it, or choose another --out-dir.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's own line for each trial off the terminal; opttune shows its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
