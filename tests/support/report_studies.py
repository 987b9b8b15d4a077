"""A stored study with everything in it, for the charts."""

from opttune.confirming.candidates import choose_candidates
from opttune.outcome import Outcome, StopReason
from opttune.study.frozen_study import FrozenStudy
from tests.support.stored_studies import record, stored

RECORDS = [
    record(0, 0.5, lr=1e-3, pauses=[(10, 2.0), (35, 1.0)]),
    record(1, 0.3, optimizer="muon", lr=2e-2, pauses=[(10, 1.9), (35, 0.9)]),
    record(2, None, lr=1.0, steps=7),
    record(3, 0.0001, optimizer="muon", lr=5e-2, schedule="linear"),
    record(4, None, reason=StopReason.FAILED, steps=3),
]


def full_study(**settings: object) -> FrozenStudy:
    left = record(5, None, lr=1e-4, reason=StopReason.PRUNED, steps=10, pauses=[(10, 3.0)])
    return stored([*RECORDS, left], **settings)  # type: ignore[arg-type]


def confirmed_study() -> FrozenStudy:
    """The same, with a verdict on three seeds."""
    candidates = choose_candidates(full_study(), top=2)
    trainings = [
        {
            "recipe": candidate.to_dict()["recipe"],
            "seed": seed,
            "run_key": "k",
            "outcome": Outcome(StopReason.COMPLETED, 0.1 * place + 0.01 * seed, 100, 100, 1.0).to_dict(),
        }
        for place, candidate in enumerate(candidates)
        for seed in (1, 2, 3)
    ]
    return full_study(
        confirmed={"candidates": [one.to_dict() for one in candidates], "seeds": [1, 2, 3], "trainings": trainings}
    )
