"""A listener that remembers, for the tests of engines."""

from collections.abc import Mapping

from opttune.guard.steps import StepRecord


class Ear:
    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.heard: list[tuple[int, dict[str, float]]] = []

    def steps(self, records: list[StepRecord]) -> None:
        self.records += records

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.heard.append((step, dict(values)))

    @property
    def step_numbers(self) -> list[int]:
        return [record.step for record in self.records]
