"""A stored study with everything in it, for the charts."""

from opttune.outcome import StopReason
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
