"""A listener that records what it receives."""

from collections.abc import Mapping

from opttune.guard.steps import StepRecord


class RecordingListener:
    """Records every step and every report of metrics."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.reports: list[tuple[int, dict[str, float]]] = []

    def steps(self, records: list[StepRecord]) -> None:
        self.records += records

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.reports.append((step, dict(values)))

    @property
    def step_numbers(self) -> list[int]:
        return [record.step for record in self.records]
