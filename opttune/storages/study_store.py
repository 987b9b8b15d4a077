"""The stored study: Optuna's, with opttune's own records in it."""

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from opttune.errors import StudyError
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.space.parse import parse_space
from opttune.space.settle import SettledSpace
from opttune.storages.journal import JournalFile
from opttune.storages.leases import SETTLE_SECONDS, Leases
from opttune.storages.record_cache import RecordCache
from opttune.storages.records import (
    BASELINE,
    HOLDER,
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
    STOPPED_AT,
    differences,
    optuna_state,
    penalty_value,
    read_repeats,
    steps_aside,
)
from opttune.trial_record import TrialRecord


class StudyStore:
    """One study in its storage.

    Args:
        name: Name of the study.
        storage: An open Optuna storage.
        spec: What the search is for: space, length, monitor, mode. A study that was made for another is refused.
        is_shared: Whether other processes may work on the study at the same time.

    Attributes:
        leases: Which process trains which trial.

    Raises:
        StudyError: The study was made for another search; the message names the difference.
    """

    def __init__(self, name: str, storage: BaseStorage, spec: Mapping[str, Any], is_shared: bool = False) -> None:
        self.mode = str(spec["mode"])
        self.storage = storage
        self._direction = StudyDirection.MINIMIZE if self.mode == "min" else StudyDirection.MAXIMIZE
        if name not in optuna.get_all_study_names(storage):
            # of several processes that start at once, one makes it
            with suppress(optuna.exceptions.DuplicatedStudyError):
                made = optuna.create_study(study_name=name, storage=storage, direction=self._direction)
                made.set_user_attr(PARENT_KEY, uuid4().hex)
                made.set_user_attr(SPEC, dict(spec))
        self.study = optuna.load_study(study_name=name, storage=storage)
        self._study_id = storage.get_study_id_from_name(name)
        self._trial_ids: dict[int, int] = {}
        self._trials = RecordCache(storage, self._study_id)
        self.leases = Leases(lambda: self.attributes, self.study.set_user_attr, is_shared)
        self._refuse_another(name, spec)

    def _refuse_another(self, name: str, spec: Mapping[str, Any]) -> None:
        stored = self.attributes.get(SPEC)
        if stored is None and self.leases.is_shared:
            # another process may be about to write it
            time.sleep(SETTLE_SECONDS)
            stored = self.attributes.get(SPEC)
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
        stored = self.attributes.get(SPACE)
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
        stored = self.attributes[SPACE]
        # JSON is YAML
        text = json.dumps(stored["space"], ensure_ascii=False)
        return SettledSpace(parse_space(text, stored["name"]), tuple(stored["notes"]))

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What is written down with the study, without the deep copy that Optuna makes; a thread may add to it."""
        return dict(self.storage.get_study_user_attrs(self._study_id))

    def together(self) -> AbstractContextManager[None]:
        """Bring what is written meanwhile to disk at the end, in its order; each alone takes milliseconds."""
        return self.storage.together() if isinstance(self.storage, JournalFile) else nullcontext()

    def records(self) -> list[TrialRecord]:
        """Return all trials, in their order."""
        records = self._trials.all()
        for number, repeats in read_repeats(self.attributes).items():
            records[number] = replace(records[number], repeats=repeats)
        return records

    @property
    def baseline(self) -> Outcome | None:
        """What the module reached as it came, where that was tried."""
        stored = self.attributes.get(BASELINE)
        return None if stored is None else Outcome.from_dict(stored)

    @property
    def steps_spent(self) -> int:
        """Optimizer steps that the whole search has done, those of the baseline and of lost runs included."""
        self._trials.look()
        return self.steps_seen

    @property
    def steps_seen(self) -> int:
        """The same as of the records that were read last, without another look at them."""
        return self._trials.steps_done + steps_aside(self.attributes)

    @property
    def parent_key(self) -> str:
        """Under which key tracking knows the search; made when it is first asked for."""
        key = self.attributes.get(PARENT_KEY)
        if key is None:
            key = uuid4().hex
            self.study.set_user_attr(PARENT_KEY, key)
        return str(key)

    def reclaim_stale(self) -> list[TrialRecord]:
        """Return the running trials that no living process trains, now this process's own: kills leave them."""
        seen = self._held_by_the_gone()
        if not seen:
            return []
        # one that was claimed just now bears the name of its last holder, until the next write
        self.leases.settle()
        taken = seen & self._held_by_the_gone()
        for number in taken:
            self._hold(self._trial_id(number))
        if taken:
            self.leases.settle()
        return [record for record in self.own() if record.number in taken]

    def _held_by_the_gone(self) -> set[int]:
        running = [record for record in self._trials.open() if record.state == "running"]
        gone = {holder for holder in {record.holder for record in running} if self.leases.is_gone(holder)}
        return {record.number for record in running if record.holder in gone}

    def own(self) -> list[TrialRecord]:
        """Return the running trials of this process."""
        return [one for one in self._trials.open() if one.state == "running" and one.holder == self.leases.holder]

    def is_own(self, number: int) -> bool:
        """Return whether no other process has taken a trial over; it may where this one stood still for long."""
        return self.record(number).holder == self.leases.holder

    def claim(self, number: int) -> bool:
        """Make a waiting trial this process's own; return whether no other was quicker."""
        trial_id = self._trial_id(number)
        try:
            is_claimed = self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        if is_claimed:
            self._hold(trial_id)
        return is_claimed

    def release(self, number: int) -> None:
        """Make a trial wait: for its promotion, or where it has passed no rung, to be the next that `ask` returns."""
        self.storage.set_trial_state_values(self._trial_id(number), TrialState.WAITING)

    def ask(self) -> optuna.Trial:
        """Return the next trial: one that was begun and has passed no rung, else a new one."""
        for record in self._trials.open():
            if record.waits_to_begin and self.claim(record.number):
                return optuna.Trial(self.study, self._trial_id(record.number))
        trial_id = self.storage.create_new_trial(self._study_id)
        self._hold(trial_id)
        return optuna.Trial(self.study, trial_id)

    def _hold(self, trial_id: int) -> None:
        self.storage.set_trial_user_attr(trial_id, HOLDER, self.leases.holder)

    def save_recipe_of(self, number: int, recipe: Recipe, run_key: str) -> None:
        """Write down what a trial is about to train."""
        trial_id = self._trial_id(number)
        self.storage.set_trial_user_attr(trial_id, RECIPE, recipe.to_dict())
        self.storage.set_trial_user_attr(trial_id, RUN_KEY, run_key)

    def note_baseline(self, outcome: Outcome) -> None:
        """Write down what the module reached as it came."""
        self.study.set_user_attr(BASELINE, outcome.to_dict())

    def save_lost_steps(self, number: int | None, steps: int) -> None:
        """Count the optimizer steps of a training that somebody stopped; None for one that is no trial's."""
        if number is None:
            self.study.set_user_attr(LOST_STEPS, int(self.attributes.get(LOST_STEPS, 0)) + steps)
        else:
            self.storage.set_trial_user_attr(self._trial_id(number), LOST_STEPS, self.record(number).lost_steps + steps)

    def save_stop(self, number: int, step: int) -> None:
        """Write down that a trial's state was saved where somebody stopped it."""
        self.storage.set_trial_user_attr(self._trial_id(number), STOPPED_AT, step)

    def save_pause(self, number: int, outcome: Outcome) -> None:
        """Write down that a trial waits at a rung; from here on it is not trained up to there again."""
        trial_id = self._trial_id(number)
        pauses = [pause.to_dict() for pause in self.record(number).pauses]
        self.storage.set_trial_intermediate_value(trial_id, outcome.steps, outcome.value or 0.0)
        self.storage.set_trial_user_attr(trial_id, RUNGS, [*pauses, outcome.to_dict()])

    def save_outcome(self, number: int, outcome: Outcome) -> None:
        """Write down what came of a trial; from here on it is not trained again."""
        trial_id, saved = self._trial_id(number), self.record(number).saved_steps
        spent = self.steps_spent + max(0, outcome.steps - saved)  # outranked, it may have been stopped further on
        self.storage.set_trial_user_attr(trial_id, STEPS_SPENT, spent)
        self.storage.set_trial_user_attr(trial_id, OUTCOME, outcome.to_dict())

    def note_repeat(self, number: int, outcome: Outcome) -> None:
        """Write down what a finished trial's recipe gave on one more seed."""
        # with the study, as a finished trial takes no more words
        so_far = [again.to_dict() for again in read_repeats(self.attributes).get(number, ())]
        self.study.set_user_attr(f"{REPEATS}.{number}", [*so_far, outcome.to_dict()])

    def run_key(self, number: int) -> str | None:
        """Return the key under which tracking knows a trial's run; None for a trial that has none yet."""
        key = self.storage.get_trial(self._trial_id(number)).user_attrs.get(RUN_KEY)
        return None if key is None else str(key)

    def record(self, number: int) -> TrialRecord:
        """Return one trial."""
        return self._trials.one(self.storage.get_trial(self._trial_id(number)))

    def tell(self, number: int, outcome: Outcome) -> None:
        """Tell Optuna what came of a trial."""
        state = optuna_state(outcome)
        if outcome.reason.is_infeasible:
            # Optuna takes the last reported value for a pruned trial's own
            values = [record.value for record in self.records() if record.value is not None]
            bad = penalty_value(outcome, self.mode, values)
            self.storage.set_trial_intermediate_value(self._trial_id(number), outcome.steps, bad)
        self.study.tell(number, outcome.value if state is TrialState.COMPLETE else None, state=state)

    def give_up(self, trial: optuna.Trial) -> None:
        """Close a trial that bad input has ended before it trained."""
        self.study.tell(trial, state=TrialState.FAIL)

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            self._trial_ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._trial_ids[number]
