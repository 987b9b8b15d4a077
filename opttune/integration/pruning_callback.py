"""Report each validation to a trial of the user's own study, and end the training if its pruner requests it."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

import optuna
from optuna.storages import InMemoryStorage

from opttune.errors import InputError
from opttune.trainer.early_end import EarlyEnd
from opttune.trainer.namespaces import AnyCallback
from opttune.trainer.ranks import from_rank_zero
from opttune.training.metrics import read_monitor


class PruningCallback(AnyCallback):
    """Reports each validation to a trial, and ends the training if the study's pruner requests it.

    Args:
        trial: The trial; with several ranks, only the first reports to its trial.
        monitor: The metric.

    Attributes:
        message: Why the pruner ended the training; empty if it did not.
        last_step: The optimizer step of the last report; -1 before the first.
        reports: Step and value of each report.
    """

    def __init__(self, trial: optuna.trial.BaseTrial, monitor: str) -> None:
        super().__init__()
        self.message = ""
        self.last_step = -1
        self.reports: list[tuple[int, float]] = []
        self._trial, self._monitor = trial, monitor
        self._early_end = EarlyEnd()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report, and end the training if the pruner requests it."""
        if trainer.sanity_checking:
            return
        if self._monitor not in trainer.callback_metrics:
            # a training metric may be logged only at the end of its epoch
            if trainer.current_epoch > 0 or self._monitor.startswith("val"):
                read_monitor(trainer.callback_metrics, self._monitor)
            return
        message = from_rank_zero(trainer, self._report(trainer) if trainer.is_global_zero else "")
        if message:
            self.message = message
            self._early_end.end(trainer, validate=True)

    def _report(self, trainer: Any) -> str:
        """Report; return the reason to end the training, or an empty text."""
        value = float(trainer.callback_metrics[self._monitor])
        # under accumulation several validations may share one step; Optuna keeps the first
        if not isfinite(value) or trainer.global_step <= self.last_step:
            return ""
        self.last_step = trainer.global_step
        self.reports.append((self.last_step, value))
        self._trial.report(value, step=self.last_step)
        # at the end of the full length should_stop is already set: a finished trial is not pruned
        if trainer.should_stop or not self._trial.should_prune():
            return ""
        return f"the study's pruner ended it at step {trainer.global_step}: {self._monitor} {value:.5g}"

    def tell_again(self, reports: Iterable[Sequence[Any]]) -> None:
        """Repeat the reports of this callback's copy in a spawned process; a shared storage has them already."""
        for step, value in reports:
            self.last_step = step
            if not is_shared(self._trial):
                self._trial.report(value, step=step)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the Trainer's settings."""
        self._early_end.restore()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the Trainer's settings."""
        self._early_end.restore()


def is_shared(trial: optuna.trial.BaseTrial) -> bool:
    """Return whether other processes can read a trial's study."""
    return isinstance(trial, optuna.Trial) and not isinstance(trial.study._storage, InMemoryStorage)


def refuse_further_trials(asked_themselves: Sequence[bool]) -> None:
    """Raise an error on every rank if a rank beyond the first has asked a shared study for a trial.

    Args:
        asked_themselves: For each rank, whether it has asked such a study itself.

    Raises:
        InputError: A rank has.
    """
    if any(asked_themselves):
        rank = list(asked_themselves).index(True)
        raise InputError(
            f"under the strategy ddp each process runs this script, and process {rank} has asked the shared study for "
            "another trial. Give every process except the first a study in memory: storage=URL if "
            "lightning.pytorch.utilities.rank_zero_only.rank == 0 else None; or train with strategy='ddp_spawn'."
        )
