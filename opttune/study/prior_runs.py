"""What the user already has of a module: the curve of the own recipe, and earlier trainings."""

from dataclasses import dataclass, field
from pathlib import Path

from opttune.errors import InputError
from opttune.study.config import SearchConfig
from opttune.study.given_baseline import GivenBaseline, read_baseline
from opttune.study.learn_from import EarlierRun, EarlierRuns, read_earlier_runs
from opttune.study.warm_start import find_earlier


@dataclass(frozen=True, slots=True)
class PriorRuns:
    """The runs that a search starts from.

    Attributes:
        baseline: The curve of the own recipe; None if the search trains it itself.
        earlier: Earlier trainings, whose best become the priors.
    """

    baseline: GivenBaseline | None = None
    earlier: EarlierRuns = field(default_factory=EarlierRuns)


def read_prior_runs(
    config: SearchConfig,
    tracking_uri: str,
    storage: str | None,
    warm_start: str | Path | None,
    baseline_run: str | Path | None,
    learn_from: str | Path | None,
) -> PriorRuns:
    """Read the runs that the arguments of a search name.

    Args:
        config: The configuration of the search.
        tracking_uri: Address of MLflow.
        storage: Address of the studies' database; None for their folders.
        warm_start: An earlier study.
        baseline_run: A run of MLflow or a CSV file with the curve of the module's own recipe.
        learn_from: An experiment of MLflow or a CSV file with trainings of the user's.

    Raises:
        OpttuneError: One of them is not there or cannot be used, or two exclude each other.
    """
    if baseline_run is not None and not config.with_baseline:
        raise InputError(
            "baseline_run (--baseline-run) gives a baseline, but baseline=False (--no-baseline) turns it off: give one."
        )
    if warm_start is not None and learn_from is not None:
        raise InputError("warm_start (--warm-start) and learn_from (--learn-from) both give the priors: give one.")
    baseline = None if baseline_run is None else read_baseline(baseline_run, config.monitor, tracking_uri)
    if learn_from is not None:
        return PriorRuns(baseline, read_earlier_runs(learn_from, config.monitor, tracking_uri))
    found = find_earlier(warm_start, storage) if warm_start is not None else []
    return PriorRuns(baseline, EarlierRuns(tuple(map(EarlierRun, found))))
