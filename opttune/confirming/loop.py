"""The trainings of a verdict: each candidate on each seed, kept in the study as they end, tracked as they run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from opttune.confirming.candidates import Candidate
from opttune.errors import StudyError
from opttune.guard.rules import Guard
from opttune.outcome import Outcome, StopReason
from opttune.runtime.signals import DeferredInterrupts
from opttune.storages.records import CONFIRMED
from opttune.study.frozen_study import FrozenStudy
from opttune.tracking.study_run import StudyRun
from opttune.tracking.training_log import ConfirmationLog
from opttune.training.attempt import Attempt, AttemptListener

RunAttempt = Callable[[Attempt, AttemptListener], Outcome]
Tell = Callable[[int, int, Candidate, int, Outcome], None]
"""Hears of each training that ended: its place, how many there are, who, which seed, what came of it."""


class Confirmation:
    """Trains each candidate on each seed, seed by seed, and passes over what an earlier call has trained.

    Args:
        study: The search.
        candidates: Whom to train.
        seeds: On which seeds.
        trainer: Arguments of the Trainer, without the length.
        run_attempt: The engine.
        tracking: The search's run.
        interrupts: Holds Ctrl-C back but while a training runs.
        tell: Who hears of each training that ended.
    """

    def __init__(
        self,
        study: FrozenStudy,
        candidates: Sequence[Candidate],
        seeds: Sequence[int],
        trainer: Mapping[str, Any],
        run_attempt: RunAttempt,
        tracking: StudyRun,
        interrupts: DeferredInterrupts,
        tell: Tell,
    ) -> None:
        self._study = study
        self._trainer = {**trainer, **study.config.length}
        # standing still is no reason not to be compared
        self._guard = Guard(stall=False) if study.origin.is_guarded else None
        self._run_attempt = run_attempt
        self._tracking = tracking
        self._interrupts = interrupts
        self._tell = tell
        self._todo = [(seed, candidate) for seed in seeds for candidate in candidates]
        self._trainings: list[dict[str, Any]] = [dict(one) for one in study.confirmed.get("trainings", ())]
        self._head = {
            "candidates": [candidate.to_dict() for candidate in candidates],
            "seeds": list(seeds),
        }

    def run(self) -> None:
        """Train all that is not trained yet.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was trained is kept.
            StudyError: A full training has another number of steps than in the search.
        """
        self._keep()
        for place, (seed, candidate) in enumerate(self._todo, 1):
            training = self._training(candidate, seed)
            if training["outcome"] is None:
                outcome = self._train(candidate, seed, training["run_key"])
                training["outcome"] = outcome.to_dict()
                self._keep()
            self._tell(place, len(self._todo), candidate, seed, Outcome.from_dict(training["outcome"]))

    def _training(self, candidate: Candidate, seed: int) -> dict[str, Any]:
        """Return the entry of a training; before it begins one is kept, so that a kill leaves no run unknown."""
        recipe = candidate.to_dict()["recipe"]
        for training in self._trainings:
            if training["recipe"] == recipe and training["seed"] == seed:
                return training
        training = {"recipe": recipe, "seed": seed, "run_key": uuid4().hex, "outcome": None}
        self._trainings.append(training)
        self._keep()
        return training

    def _keep(self) -> None:
        self._study.study.set_user_attr(CONFIRMED, {**self._head, "trainings": self._trainings})

    def _train(self, candidate: Candidate, seed: int, run_key: str) -> Outcome:
        log = ConfirmationLog(self._tracking, candidate.recipe, candidate.label, seed, run_key)
        attempt = Attempt(
            recipe=candidate.recipe,
            monitor=self._study.config.monitor,
            seed=seed,
            trainer=self._trainer,
            guard=self._guard,
            mode=self._study.config.mode,
        )
        outcome = Outcome(StopReason.FAILED, None, 0, self._study.total_steps, 0.0)
        try:
            with self._interrupts.released():
                outcome = self._run_attempt(attempt, log)
            if outcome.reason is StopReason.FAILED and self._interrupts.stop_requested:
                outcome = replace(outcome, reason=StopReason.INTERRUPTED, traceback="")
        finally:
            log.end(outcome)
        if outcome.reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt
        if outcome.total_steps != self._study.total_steps and outcome.reason.counts:
            raise StudyError(
                f"the search trained for {self._study.total_steps} steps, now a full training has "
                f"{outcome.total_steps}: the data or the Trainer changed."
            )
        return outcome
