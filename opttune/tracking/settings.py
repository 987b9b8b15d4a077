"""`Tracking`: what a search writes to MLflow beside the usual."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tracking:
    """What a search writes to MLflow beside the usual; frozen settings.

    Attributes:
        thin: Whether curves of more than 1,000 steps are thinned evenly after their first 5%; False writes every step.
        log_model: Whether the best trial's checkpoint, optimizer state included, becomes an artifact.
        report: Whether the report and its pictures are made when the search ends.

    Example:
        >>> Tracking(thin=False).log_model
        False
    """

    thin: bool = True
    log_model: bool = False
    report: bool = True
