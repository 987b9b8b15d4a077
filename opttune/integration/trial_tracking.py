"""Write a trial of the user's own study to MLflow."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.storages import InMemoryStorage

from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.shared_folder import remove_empty
from opttune.storages.records import PARENT_KEY
from opttune.storages.study_folder import folder_name
from opttune.tracking.address import resolve_tracking_uri
from opttune.tracking.study_run import StudyRun, open_study_run
from opttune.tracking.thinning import Thinning
from opttune.tracking.training_log import recipe_params, short_name, step_metrics
from opttune.tracking.trial_run import TrialRun, attach_trial_run
from opttune.trainer.namespaces import is_mlflow_logger

_LONGEST_WAIT_SECONDS = 60.0


class TrialTracking:
    """Writes one trial into the run of the Trainer's MLFlowLogger, else into a child of the study's run.

    Args:
        trial: The trial; a `FixedTrial` has no study and is written only if there is such a logger.
        tracking_uri: Address of MLflow; None for the default.
    """

    def __init__(self, trial: optuna.trial.BaseTrial, tracking_uri: str | None) -> None:
        self._trial = trial
        self._uri = resolve_tracking_uri(tracking_uri)
        self._folder = Path()
        self._parent: StudyRun | None = None
        self._run: TrialRun | None = None

    def open(self, loggers: list[Any], recipe: Recipe, total_steps: int) -> None:
        """Find or make the run, and write the recipe as its params."""
        logger = next((logger for logger in loggers if is_mlflow_logger(logger)), None)
        thinning = Thinning(total_steps)
        if logger is not None:
            self._run = attach_trial_run(logger.experiment, logger.run_id, thinning=thinning)
        elif isinstance(self._trial, optuna.Trial):
            self._parent = self._open_parent(self._trial.study)
            number = self._trial.number
            tags = {"opttune.role": "trial", "opttune.trial": str(number)}
            self._run = self._parent.child(short_name(f"#{number}", recipe), tags=tags, thinning=thinning)
        if self._run is not None:
            self._run.params(recipe_params(recipe))

    def _open_parent(self, study: optuna.Study) -> StudyRun:
        self._folder = Path("opttune_runs") / folder_name(study.study_name)
        # concurrent trials, in threads or processes, must share one parent
        with _one_at_a_time(self._folder, shared=not isinstance(study._storage, InMemoryStorage)):
            key = study.user_attrs.get(PARENT_KEY)
            if key is None:
                key = uuid4().hex
                study.set_user_attr(PARENT_KEY, key)
            return open_study_run(
                tracking_uri=self._uri, study_name=study.study_name, spool_dir=self._folder / "spool", run_id=key
            )

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""
        if self._run is not None:
            for record in records:
                self._run.log(record.step, step_metrics(record))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged; a logger writes them itself."""
        if self._run is not None and self._parent is not None:
            self._run.log(step, values, always=True)

    def end(self, outcome: Outcome) -> None:
        """Write the end of the trial. A logger sets its run's state after this; `settle` corrects it."""
        if self._run is None:
            return
        if self._parent is None:
            # an objective that raises never asks for the result
            if outcome.reason in (StopReason.FAILED, StopReason.INTERRUPTED):
                self.settle(outcome)
            return
        self._run.end(outcome)
        # it is unknown whether the study continues: its run is ended while no trial runs
        self._parent.end("FINISHED")
        self._parent.close()
        self._run = None
        for folder in (self._folder / "spool", self._folder, self._folder.parent):
            remove_empty(folder)

    def settle(self, outcome: Outcome) -> None:
        """Write the state into a logger's run, after the fit."""
        if self._run is not None:
            self._run.end(outcome)
            self._run.close()
            self._run = None


_OPENING = threading.Lock()


@contextmanager
def _one_at_a_time(folder: Path, shared: bool) -> Iterator[None]:
    """Hold a lock among the threads of this process; for a shared study, among all processes of this machine."""
    with _OPENING, ExitStack() as stack:
        # a folder that cannot be written, or a lock that hangs, must not stop a training
        with suppress(OSError, Timeout):
            if shared:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / ".lock", timeout=_LONGEST_WAIT_SECONDS))
        yield
