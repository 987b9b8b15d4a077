"""`Tracking`: optional contents of a search's MLflow runs."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tracking:
    """Settings for the contents of a search's MLflow runs; frozen.

    Attributes:
        thin: Whether curves of more than 1,000 steps are thinned evenly after their first 5%; False writes every step.
        log_model: Whether the best trial's checkpoint, including the optimizer's state, becomes an artifact.
        log_data: Whether facts about the loaders (class of the dataset, numbers of samples and batches) become MLflow
            datasets of the search and of each trial. Their digest covers these facts and the name of the data, not
            the samples.
        system_metrics: Whether system metrics of the search's machine (processors, memory, disk, network, GPUs) are
            written to the search's run and, except with Ray, to the running trials. This needs `opttune[system]`. None
            follows MLflow's own `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`.
        report: Whether to write the report and its images at the end of the search.

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
        """Whether system metrics are written."""
        if self.system_metrics is None:
            return os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in ("true", "1")
        return self.system_metrics
