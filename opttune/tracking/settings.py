"""`Tracking`: what a search writes to MLflow beside the usual."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tracking:
    """What a search writes to MLflow beside the usual; frozen settings.

    Attributes:
        thin: Whether curves of more than 1,000 steps are thinned evenly after their first 5%; False writes every step.
        log_model: Whether the best trial's checkpoint, optimizer state included, becomes an artifact.
        log_data: Whether the loaders (class of the dataset, samples, batches) become MLflow's datasets of the search
            and of each trial; their digest is made of these facts and of the name of the data, and of no sample.
        system_metrics: Whether the load of the machine that runs the search (processors, memory, disk, network, GPUs)
            is written to the search and, but for Ray, to the trials under way; needs `opttune[system]`. None asks
            MLflow's own `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`.
        report: Whether the report and its pictures are made when the search ends.

    Example:
        >>> Tracking(thin=False).log_model
        False
    """

    thin: bool = True
    log_model: bool = False
    log_data: bool = False
    system_metrics: bool | None = None
    report: bool = True

    @property
    def reads_machine(self) -> bool:
        """Whether the load of the machine is written."""
        if self.system_metrics is None:
            return os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in ("true", "1")
        return self.system_metrics
