"""The metrics that the module logs: reported after each validation, and read at the end."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from opttune.errors import MonitorError, one_of, shown
from opttune.trainer.metrics import as_number
from opttune.trainer.namespaces import AnyCallback

_KEY = "opttune.metrics"


class MetricsReporter(AnyCallback):
    """Reports the metrics that the module logged: after each validation, and the rest after each training epoch.

    A metric may be logged only in few validations. Lightning keeps its last value, but not over a pause; this does.

    Args:
        report: Called with the optimizer step and the metrics by name.
    """

    def __init__(self, report: Callable[[int, Mapping[str, float]], None]) -> None:
        super().__init__()
        self._report = report
        self._of_training: set[str] = set()
        self._of_validation: set[str] = set()
        self._before: dict[str, float] = {}

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Save the metrics of a running training."""
        if trainer.training:
            names = {"training": sorted(self._of_training), "validation": sorted(self._of_validation)}
            checkpoint[_KEY] = {"values": read_metrics(trainer.callback_metrics), **names}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Read them back."""
        saved = checkpoint.get(_KEY, {"values": {}, "training": (), "validation": ()})
        self._before = saved["values"]
        self._of_training, self._of_validation = set(saved["training"]), set(saved["validation"])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Restore them, because Lightning has dropped all metrics."""
        values = {name: torch.tensor(value) for name, value in self._before.items()}
        trainer.callback_metrics.update({**values, **trainer.callback_metrics})

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of a validation, without means over a training epoch that has not ended."""
        if not trainer.sanity_checking:
            values = read_metrics(trainer.callback_metrics)
            self._of_validation |= values.keys() - self._of_training
            self._report_some(trainer, values, self._of_validation)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of the last training epoch, which are complete only now."""
        self._report_training(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of the last training epoch."""
        self._report_training(trainer)

    def _report_training(self, trainer: Any) -> None:
        values = read_metrics(trainer.callback_metrics)
        self._of_training |= values.keys() - self._of_validation
        self._report_some(trainer, values, self._of_training)

    def _report_some(self, trainer: Any, values: Mapping[str, float], names: set[str]) -> None:
        chosen = {name: value for name, value in values.items() if name in names}
        if chosen:
            self._report(trainer.global_step, chosen)


def read_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return a Trainer's `callback_metrics` as plain numbers, without those that are not a single number."""
    numbers = {name: as_number(value) for name, value in metrics.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def read_monitor(metrics: Mapping[str, Any], monitor: str, has_validation: bool = True) -> float:
    """Return the monitored metric.

    Args:
        metrics: A Trainer's `callback_metrics`.
        monitor: The metric.
        has_validation: Whether there are validation data; else the message says so.

    Raises:
        MonitorError: It was never logged, or is not a single number; the message lists the logged metrics.
    """
    if monitor in metrics and (number := as_number(metrics[monitor])) is not None:
        return number
    logged = read_metrics(metrics)
    if monitor in metrics:
        raise MonitorError(
            f"the monitored metric {monitor!r} is not a single number, got {_shape(metrics[monitor])}. "
            f"Choose one that is: {', '.join(sorted(logged)) or 'none was logged'}."
        )
    if not has_validation:
        raise MonitorError(
            f"there are no validation data, so validation_step did not run and the monitored metric {monitor!r} was "
            f"never logged. Give validation data, as (train, val) loaders or a LightningDataModule with "
            f"val_dataloader, or monitor a metric of the training: {', '.join(sorted(logged)) or 'none is logged'}."
        )
    advice = f"log it in validation_step: self.log({monitor!r}, value), and give validation data."
    if not logged:
        raise MonitorError(f"the monitored metric {monitor!r} was never logged; nothing was. To have it, {advice}")
    near = one_of(logged, monitor).partition("Allowed")[0]
    raise MonitorError(
        f"the monitored metric {monitor!r} was never logged. {near}Logged: {', '.join(sorted(logged))}. "
        f"Choose one of them, or {advice}"
    )


def _shape(value: Any) -> str:
    shape = tuple(getattr(value, "shape", ()))
    return f"a tensor of shape {shape}" if shape else shown(value)
