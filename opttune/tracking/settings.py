"""`Tracking`: what a search writes to MLflow beside the usual."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tracking:
    """What a search writes to MLflow beside the usual; frozen settings.

    Attributes:
        thin: Whether curves of more than 1,000 steps are thinned evenly after their first 5%; False writes every step.
        log_model: Whether the best trial's checkpoint, optimizer state included, becomes an artifact.
        log_data: Whether the data is written as MLflow's dataset: its kind, size and a digest of its first batch.
        log_system: Whether load and memory of the machine are written while the search runs.
        report: Whether the report and its pictures are made when the search ends.

    Example:
        >>> Tracking(thin=False).log_model
        False
    """

    thin: bool = True
    log_model: bool = False
    log_data: bool = False
    log_system: bool = False
    report: bool = True
