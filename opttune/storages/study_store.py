"""The stored study: Optuna's study with opttune's own records."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any
from uuid import uuid4

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from opttune.errors import StudyError
from opttune.identity import Identity
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.space.model import SettledSpace
from opttune.space.parse import settled_from_dict, settled_to_dict
from opttune.storages.journal import JournalFile
from opttune.storages.leases import SETTLE_SECONDS, Leases
from opttune.storages.legacy import legacy_runs, legacy_steps
from opttune.storages.records import (
    IDENTITY,
    PARENT_KEY,
    SPACE,
    SPEC,
    STEP_SECONDS,
    auxiliary_study_name,
    differences,
    races,
)
from opttune.storages.trial_store import TrialStore
from opttune.trial_record import TrialRecord


class StudyStore:
    """One study in its storage.

    The trials of the search are the trials of one Optuna study. Auxiliary runs (the baseline, replicates,
    confirmations) are the trials of a second study beside it, so Optuna's own views of a search show only its trials.
    Both kinds are claimed, paused and resumed in the same way.

    Args:
        name: Name of the study.
        storage: An open Optuna storage.
        spec: The purpose of the search: space, length, monitor, mode. A study with another purpose is refused.
        is_shared: Whether other processes may work on the study at the same time.

    Attributes:
        trials: The search's trials.
        leases: The leases of all processes.

    Raises:
        StudyError: The study was made for another search; the message names the difference.
    """

    def __init__(self, name: str, storage: BaseStorage, spec: Mapping[str, Any], is_shared: bool = False) -> None:
        self.storage = storage
        self._seed = int(spec.get("seed", 0))
        self._direction = StudyDirection.MINIMIZE if spec["mode"] == "min" else StudyDirection.MAXIMIZE
        if name not in optuna.get_all_study_names(storage):
            # if several processes start at once, only one makes it
            with suppress(optuna.exceptions.DuplicatedStudyError):
                made = optuna.create_study(study_name=name, storage=storage, direction=self._direction)
                made.set_user_attr(PARENT_KEY, uuid4().hex)
                made.set_user_attr(SPEC, dict(spec))
        self.study = optuna.load_study(study_name=name, storage=storage)
        self._study_id = storage.get_study_id_from_name(name)
        self.leases = Leases(lambda: self.attributes, self.study.set_user_attr, is_shared)
        self.trials = TrialStore(self.study, storage, self.leases)
        self._runs: TrialStore | None = None
        self._may_have_runs = True
        self._refuse_another(name, spec)

    def _refuse_another(self, name: str, spec: Mapping[str, Any]) -> None:
        stored = self.attributes.get(SPEC)
        if stored is None and self.leases.is_shared:
            # another process may be about to write it
            time.sleep(SETTLE_SECONDS)
            stored = self.attributes.get(SPEC)
        if stored is None and not self.study.get_trials(deepcopy=False) and self.study.directions == [self._direction]:
            # a search was killed after it made the study and before it wrote the purpose
            self.study.set_user_attr(SPEC, dict(spec))
            return
        if stored is None:
            raise StudyError(f"the study {name!r} was not made by opttune search. Choose another name: --study NAME.")
        found = differences(stored, spec)
        if found:
            raise StudyError(
                f"the study {name!r} was made for another search ({'; '.join(found[:3])}). "
                "Use the same settings, or start a new study: --study NAME."
            )

    def refuse_another_model(
        self, now: Identity, way_out: str = "Search it under another name: study='NAME' (--study NAME)."
    ) -> None:
        """Store the model and the data of the study; an older study stores those of its first resumption.

        Args:
            now: The present model and data.
            way_out: Advice for other models or data, in a sentence.

        Raises:
            StudyError: It was made for another model or other data; the message names the difference.
        """
        stored = self.attributes.get(IDENTITY)
        if stored is None:
            self.study.set_user_attr(IDENTITY, now.to_dict())
            return
        what, words = Identity.from_dict(stored).differences(now)
        if what:
            raise StudyError(f"the study {self.study.study_name!r} was made for {what} ({'; '.join(words)}). {way_out}")

    def settle_space(self, settled: SettledSpace, full_length_steps: int, races: bool = False) -> SettledSpace:
        """Return the space of the study; a new study takes the given one.

        Args:
            settled: The settled space.
            full_length_steps: Optimizer steps of a full training.
            races: Whether a new study has the rungs of long trainings.

        Raises:
            StudyError: A full training had another number of steps when the study was made.
        """
        stored = self.attributes.get(SPACE)
        if stored is None:
            stored = {**settled_to_dict(settled), "full_length_steps": full_length_steps, "races": races}
            self.study.set_user_attr(SPACE, stored)
        if stored["full_length_steps"] != full_length_steps:
            raise StudyError(
                f"the study {self.study.study_name!r} was made for trainings of {stored['full_length_steps']} steps, "
                f"now they have {full_length_steps}: its data or its Trainer changed. Start a new one: --study NAME."
            )
        return self.stored_space

    @property
    def stored_space(self) -> SettledSpace:
        """The settled space of the study."""
        return settled_from_dict(self.attributes[SPACE])

    @property
    def races(self) -> bool:
        """Whether the study was made for long trainings, with their rungs; before 2026-12 no study was."""
        return races(self.attributes)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The user attributes of the study, without Optuna's deep copy; a thread may add to them."""
        return dict(self.storage.get_study_user_attrs(self._study_id))

    def batch(self) -> AbstractContextManager[None]:
        """Flush the writes inside the context to disk at its end, in order, because each flush takes milliseconds."""
        return self.storage.batch() if isinstance(self.storage, JournalFile) else nullcontext()

    def records(self) -> list[TrialRecord]:
        """Return all trials, in their order, each with its recipe's values on further seeds."""
        records = self.trials.records()
        for run in self.runs():
            if run.role is Role.REPLICATE and run.outcome is not None and run.auxiliary is not None:
                number = run.auxiliary.trial or 0
                records[number] = replace(records[number], replicates=(*records[number].replicates, run.outcome))
        return records

    def runs(self) -> list[TrialRecord]:
        """Return all auxiliary runs: the baseline, replicates and confirmations, in their order.

        Two processes that start a job at the same moment may both add it; only the first one counts.
        """
        store = self._run_store()
        first: dict[TrainingJob | None, TrialRecord] = {}
        for run in (*self._legacy_runs, *(() if store is None else store.records())):
            first.setdefault(run.auxiliary, run)
        return list(first.values())

    @cached_property
    def _legacy_runs(self) -> list[TrialRecord]:
        # no search adds further ones
        return legacy_runs(self.attributes, self._seed)

    def _run_store(self) -> TrialStore | None:
        """Return the store of the auxiliary runs; None if none was started yet."""
        if self._runs is None and self._may_have_runs:
            # if no other process works on the study, only this one can make it
            self._may_have_runs = self.leases.is_shared
            if (name := self._runs_name()) in optuna.get_all_study_names(self.storage):
                study = optuna.load_study(study_name=name, storage=self.storage)
                self._runs = TrialStore(study, self.storage, self.leases)
        return self._runs

    def _make_run_store(self) -> TrialStore:
        if (store := self._run_store()) is not None:
            return store
        made = optuna.create_study(
            study_name=self._runs_name(), storage=self.storage, direction=self._direction, load_if_exists=True
        )
        self._runs = TrialStore(made, self.storage, self.leases)
        return self._runs

    def _runs_name(self) -> str:
        return auxiliary_study_name(self.study.study_name, self.attributes.get(PARENT_KEY, ""))

    def store_of(self, record: TrialRecord) -> TrialStore:
        """Return the store of a training: that of the trials, or that of the auxiliary runs."""
        return self.trials if record.auxiliary is None else self._make_run_store()

    def claim_run(self, job: TrainingJob) -> TrialRecord | None:
        """Claim an auxiliary run for this process, to start or resume it.

        Returns:
            Its record; None if it has ended, or another process trains it.
        """
        store = self._make_run_store()
        if self._find_run(job) is None:
            store.add(job)
        found = self._find_run(job)
        if found is None or found.outcome is not None or not store.claim(found.number):
            return None
        return store.record(found.number)

    def _find_run(self, job: TrainingJob) -> TrialRecord | None:
        return next((run for run in self.runs() if run.auxiliary == job), None)

    def reclaim_stale(self) -> list[TrialRecord]:
        """Take over the running trainings whose process has died, and return them."""
        return [record for store in self._stores() for record in store.reclaim_stale()]

    def own(self) -> list[TrialRecord]:
        """Return the running trainings of this process."""
        return [record for store in self._stores() for record in store.own()]

    def _stores(self) -> list[TrialStore]:
        runs = self._run_store()
        return [self.trials] if runs is None else [self.trials, runs]

    def save_outcome(self, record: TrialRecord, outcome: Outcome) -> None:
        """Save the outcome of a training, and the cost of the search so far."""
        store = self.store_of(record)
        # a discarded training may have been saved further on, after an interruption
        undone = max(0, outcome.steps - store.record(record.number).saved_steps)
        # a discarded training has not trained since its last pause
        seconds = 0.0 if outcome.reason is StopReason.OUTRANKED else outcome.seconds
        store.save_outcome(record.number, outcome, self.steps_spent + undone, self.seconds_seen + seconds)

    @property
    def steps_spent(self) -> int:
        """Optimizer steps of the whole search, including those of auxiliary runs and lost ones."""
        self.trials.records()
        return self.steps_seen

    @property
    def steps_seen(self) -> int:
        """The same from the records of the last reading, without another look at the trials."""
        # the cost of a verdict is not part of the search
        runs = sum(run.steps_done for run in self.runs() if run.role is not Role.CONFIRMATION)
        return self.trials.steps_done + runs + legacy_steps(self.attributes)

    @property
    def seconds_seen(self) -> float:
        """Wall time of all trainings of the search, from the records of the last reading."""
        runs = sum(run.seconds for run in self.runs() if run.role is not Role.CONFIRMATION)
        return self.trials.seconds_done + runs

    @property
    def step_seconds(self) -> dict[str, float] | None:
        """Seconds per step of each optimizer and of the baseline; None before they were measured."""
        stored = self.attributes.get(STEP_SECONDS)
        return None if stored is None else dict(stored)

    def keep_step_seconds(self, measured: Mapping[str, float]) -> dict[str, float]:
        """Store the time of a step of each optimizer, which determines the lengths of all trainings of the study.

        Args:
            measured: The times that this process has measured.

        Returns:
            The times that the study uses: those of another process, if it has measured first.
        """
        if self.step_seconds is None:
            self.study.set_user_attr(STEP_SECONDS, dict(measured))
            # if several processes have measured at once, all use the last write
            self.leases.settle()
        return self.step_seconds or {}

    @property
    def parent_key(self) -> str:
        """The key of the search in tracking; it is made at its first use."""
        key = self.attributes.get(PARENT_KEY)
        if key is None:
            key = uuid4().hex
            self.study.set_user_attr(PARENT_KEY, key)
        return str(key)
