"""The metrics that the module logs: reported after each validation, and read at the end."""

from collections.abc import Callable, Mapping
from typing import Any

from opttune.errors import MonitorError, one_of
from opttune.trainer.namespaces import AnyCallback


class MetricsReporter(AnyCallback):
    """Reports the metrics that the module logged: after each validation, and the rest after each training epoch.

    Args:
        report: Called with the optimizer step and the metrics by name.
    """

    def __init__(self, report: Callable[[int, Mapping[str, float]], None]) -> None:
        super().__init__()
        self._report = report
        self._of_training: set[str] = set()
        self._of_validation: set[str] = set()

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
    """Return a Trainer's `callback_metrics` as plain numbers."""
    return {name: float(value) for name, value in metrics.items()}


def read_monitor(metrics: Mapping[str, Any], monitor: str) -> float:
    """Return the monitored metric.

    Raises:
        MonitorError: It was never logged; the message lists what was.
    """
    if monitor not in metrics:
        advice = f"log it in validation_step: self.log({monitor!r}, value), and give validation data."
        if not metrics:
            raise MonitorError(f"the monitored metric {monitor!r} was never logged; nothing was. To have it, {advice}")
        near = one_of(metrics, monitor).partition("Allowed")[0]
        raise MonitorError(
            f"the monitored metric {monitor!r} was never logged. {near}Logged were: {', '.join(sorted(metrics))}. "
            f"Choose one of them, or {advice}"
        )
    return float(metrics[monitor])
