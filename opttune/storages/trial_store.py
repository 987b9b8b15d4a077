"""The trainings in one Optuna study: their claims and their saved values."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from opttune.job import TrainingJob
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.storages.leases import Leases
from opttune.storages.record_cache import RecordCache
from opttune.storages.records import (
    HOLDER,
    JOB,
    LOST_STEPS,
    OUTCOME,
    RECIPE,
    RUN_KEY,
    RUNGS,
    SECONDS_SPENT,
    SOURCE,
    STEPS_SPENT,
    STOPPED_AT,
    STOPPED_LOOK,
    optuna_state,
    penalty_value,
)
from opttune.trial_record import TrialRecord

Trial = optuna.Trial


class TrialStore:
    """The trainings of one Optuna study; each is one of its trials.

    A training waits, or one process trains it: Optuna lets only one of several processes make a waiting trial a running
    one. Its results are saved piece by piece; Optuna is told last.

    Args:
        study: The study.
        storage: Its open storage.
        leases: The leases of this process and of others.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, leases: Leases) -> None:
        self._study, self._storage, self._leases = study, storage, leases
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._mode = "min" if study.direction == StudyDirection.MINIMIZE else "max"
        self._trial_ids: dict[int, int] = {}
        self._cache = RecordCache(storage, self._study_id)

    @property
    def steps_done(self) -> int:
        """Optimizer steps of all trainings, at the last reading."""
        return self._cache.steps_done

    @property
    def seconds_done(self) -> float:
        """Wall time of all trainings, at the last reading."""
        return self._cache.seconds_done

    def records(self) -> list[TrialRecord]:
        """Return all trainings, in their order."""
        return self._cache.all()

    def record(self, number: int) -> TrialRecord:
        """Return one training."""
        return self._cache.one(self._storage.get_trial(self._trial_id(number)))

    def own(self) -> list[TrialRecord]:
        """Return the trainings that this process runs."""
        return [one for one in self._running() if one.holder == self._leases.holder]

    def is_own(self, number: int) -> bool:
        """Return whether no other process has taken it over, as one may if this process was suspended for long."""
        return self.record(number).holder == self._leases.holder

    def reclaim_stale(self) -> list[TrialRecord]:
        """Take over the running trainings whose process has died, and return them."""
        seen = self._held_by_the_dead()
        if not seen:
            return []
        # a newly claimed trial has the name of its last holder until the next write
        self._leases.settle()
        taken = seen & self._held_by_the_dead()
        for number in taken:
            self._hold(self._trial_id(number))
        if taken:
            self._leases.settle()
        return [record for record in self.own() if record.number in taken]

    def _held_by_the_dead(self) -> set[int]:
        running = self._running()
        dead = {holder for holder in {record.holder for record in running} if self._leases.is_expired(holder)}
        return {record.number for record in running if record.holder in dead}

    def _running(self) -> list[TrialRecord]:
        return [record for record in self._cache.open() if record.state == "running"]

    def ask(self) -> optuna.Trial:
        """Return the next trial: a started one that has passed no rung, else a new one."""
        for record in self._cache.open():
            if record.waits_to_begin and self.claim(record.number):
                return optuna.Trial(self._study, self._trial_id(record.number))
        trial_id = self._storage.create_new_trial(self._study_id)
        self._hold(trial_id)
        return optuna.Trial(self._study, trial_id)

    def begin(self, parameters: Mapping[str, Any]) -> optuna.Trial:
        """Return a new trial with these parameters."""
        trial_id = self._add_waiting(parameters)
        self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        self._hold(trial_id)
        return optuna.Trial(self._study, trial_id)

    def repeat(self, number: int) -> None:
        """Add a waiting trial with the parameters of another one."""
        self._add_waiting(self._storage.get_trial(self._trial_id(number)).params)

    def _add_waiting(self, parameters: Mapping[str, Any]) -> int:
        waiting = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": dict(parameters)})
        return self._storage.create_new_trial(self._study_id, template_trial=waiting)

    def add(self, job: TrainingJob) -> None:
        """Add a waiting training."""
        waiting = create_trial(state=TrialState.WAITING, user_attrs={JOB: job.to_dict()})
        self._storage.create_new_trial(self._study_id, template_trial=waiting)

    def claim(self, number: int) -> bool:
        """Claim a waiting training for this process; return whether no other process was faster."""
        trial_id = self._trial_id(number)
        try:
            is_claimed = self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        if is_claimed:
            self._hold(trial_id)
        return is_claimed

    def requeue(self, number: int) -> None:
        """Make a training wait: for its promotion, or to be resumed by the next process that claims it."""
        self._storage.set_trial_state_values(self._trial_id(number), TrialState.WAITING)

    def _hold(self, trial_id: int) -> None:
        self._storage.set_trial_user_attr(trial_id, HOLDER, self._leases.holder)

    def save_start(self, number: int, recipe: Recipe | None, run_key: str) -> None:
        """Save the recipe of a starting training, and the key of its run in tracking."""
        if recipe is not None:
            self._save(number, RECIPE, recipe.to_dict())
        self._save(number, RUN_KEY, run_key)

    def save_source(self, number: int, recipe: Recipe | None, source: str) -> None:
        """Save that the following values were not trained here.

        Args:
            number: The training.
            recipe: Its recipe.
            source: The source of its values, in words.
        """
        self._save(number, SOURCE, source)
        if recipe is not None:
            self._save(number, RECIPE, recipe.to_dict())

    def save_lost_steps(self, number: int, steps: int) -> None:
        """Count the optimizer steps that were interrupted without a saved state, or in a look."""
        self._save(number, LOST_STEPS, self.record(number).lost_steps + steps)

    def save_stop(self, number: int, step: int) -> None:
        """Save that the state of an interrupted training was saved at a step."""
        self._save(number, STOPPED_AT, step)

    def save_stopped_look(self, number: int, outcome: Outcome) -> None:
        """Save that a training waits at a rung with its state saved, and only its look is missing."""
        self._save(number, STOPPED_LOOK, outcome.to_dict())
        self.save_stop(number, outcome.steps)
        self.save_lost_steps(number, outcome.look_steps)

    def save_pause(self, number: int, outcome: Outcome) -> None:
        """Save that a training waits at a rung; it is not trained up to there again."""
        pauses = [pause.to_dict() for pause in self.record(number).pauses]
        if outcome.value is not None:
            self._storage.set_trial_intermediate_value(self._trial_id(number), outcome.steps, outcome.value)
        self._save(number, RUNGS, [*pauses, outcome.to_dict()])

    def save_outcome(self, number: int, outcome: Outcome, steps_spent: int, seconds_spent: float) -> None:
        """Save the outcome of a training, which is then not repeated."""
        self._save(number, STEPS_SPENT, steps_spent)
        self._save(number, SECONDS_SPENT, round(seconds_spent, 3))
        self._save(number, OUTCOME, outcome.to_dict())

    def run_key(self, number: int) -> str | None:
        """Return the key of a training's run in tracking; None before it has one."""
        key = self._storage.get_trial(self._trial_id(number)).user_attrs.get(RUN_KEY)
        return None if key is None else str(key)

    def run_keys(self) -> dict[int, str]:
        """Return the keys of the runs in tracking, by number."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        keys = {trial.number: trial.user_attrs.get(RUN_KEY) for trial in trials}
        return {number: str(key) for number, key in keys.items() if key is not None}

    def tell(self, number: int, outcome: Outcome) -> None:
        """Report the outcome of a training to Optuna."""
        state = optuna_state(outcome)
        if outcome.reason.is_infeasible:
            # Optuna uses the last reported value as a pruned trial's own
            values = [record.value for record in self.records() if record.value is not None]
            penalty = penalty_value(outcome, self._mode, values)
            self._storage.set_trial_intermediate_value(self._trial_id(number), outcome.steps, penalty)
        self._study.tell(number, outcome.value if state is TrialState.COMPLETE else None, state=state)

    def fail(self, trial: optuna.Trial) -> None:
        """Close a trial that bad input has ended before it trained."""
        self._study.tell(trial, state=TrialState.FAIL)

    def _save(self, number: int, attribute: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._trial_id(number), attribute, value)

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            self._trial_ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._trial_ids[number]
