"""Auxiliary runs in studies of earlier versions, which had no second study for them.

The baseline, replicates and confirmations were user attributes of the search's study. They are read, never written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.storages.records import CONFIRMED, LOST_STEPS
from opttune.trial_record import TrialRecord

_BASELINE, _REPLICATES = "opttune.baseline", "opttune.repeats."


def legacy_runs(attributes: Mapping[str, Any], seed: int) -> list[TrialRecord]:
    """Return the auxiliary runs in the attributes of a study; all of them have ended.

    Args:
        attributes: The user attributes of the study.
        seed: The search's seed.
    """
    found = _runs(attributes, seed)
    # their numbers are below those of the runs that are trials
    return [
        TrialRecord(-1 - place, "complete", job.recipe, outcome, None, auxiliary=job)
        for place, (job, outcome) in enumerate(found)
    ]


def legacy_steps(attributes: Mapping[str, Any]) -> int:
    """Return the lost optimizer steps of auxiliary runs that were interrupted and restarted."""
    return int(attributes.get(LOST_STEPS, 0))


def _runs(attributes: Mapping[str, Any], seed: int) -> Iterator[tuple[TrainingJob, Outcome]]:
    if _BASELINE in attributes:
        yield TrainingJob(None, seed, Role.BASELINE), Outcome.from_dict(attributes[_BASELINE])
    for name, outcomes in attributes.items():
        if name.startswith(_REPLICATES):
            trial = int(name.removeprefix(_REPLICATES))
            for further, outcome in enumerate(outcomes, 1):
                yield TrainingJob(None, seed + further, Role.REPLICATE, trial), Outcome.from_dict(outcome)
    for training in attributes.get(CONFIRMED, {}).get("trainings", ()):
        if training["outcome"] is not None:
            recipe = None if training["recipe"] is None else Recipe.from_dict(training["recipe"])
            yield TrainingJob(recipe, training["seed"], Role.CONFIRMATION), Outcome.from_dict(training["outcome"])
