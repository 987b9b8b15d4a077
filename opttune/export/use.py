"""`Use`: where an exported recipe comes from, and what it was trained with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from opttune.build.schedule import Mode


@dataclass(frozen=True, slots=True)
class Use:
    """Where a recipe comes from, and what it was trained with.

    Attributes:
        source: In words: a trial, or a file.
        value: What it reached; None where that is not known.
        monitor: The metric of that value, and of a schedule that follows it.
        mode: Whether that metric is to fall or to rise.
        length: The full length of its training; empty where that is not known.
        seed: The seed of its training; None where that is not known.
        has_own_groups: Whether the module's own optimizer had several parameter groups, whose ratios were kept.
        call: How to train with the recipe file, as Python text.
    """

    source: str
    value: float | None = None
    monitor: str = "val_loss"
    mode: Mode = "min"
    length: Mapping[str, int] = field(default_factory=dict)
    seed: int | None = None
    has_own_groups: bool = False
    call: str = ""

    @property
    def comments(self) -> list[str]:
        """What stands above an exported recipe, line by line."""
        reached = "" if self.value is None else f": {self.monitor} {self.value:.6g}"
        lines = [f"{self.source}{reached}"]
        if self.length:
            length = ", ".join(f"{name}={count}" for name, count in self.length.items())
            lines.append(f"length: {length}; seed: {self.seed}")
        return [*lines, f"to train with it: {self.call}"] if self.call else lines
