"""`Tracking`: what else a search writes to MLflow."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tracking:
    """What else a search writes to MLflow; frozen settings.

    Attributes:
        thin: Whether curves of more than 1,000 steps are thinned evenly after their first 5%; False writes every step.
        log_model: Whether the best trial's checkpoint, including the optimizer's state, becomes an artifact.
        log_data: Whether facts of the loaders (class of the dataset, numbers of samples and batches) become MLflow
            datasets of the search and of each trial. Their digest covers these facts and the name of the data, not
            the samples.
        system_metrics: Whether the load of the machine that runs the search (processors, memory, disk, network, GPUs)
            is written to the search and, except with Ray, to the running trials; needs `opttune[system]`. None
            follows MLflow's own `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`.
        report: Whether the report and its pictures are written when the search ends.

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
