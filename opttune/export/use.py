"""`Use`: the origin of an exported recipe and the settings of its training."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from opttune.build.schedule import Mode


@dataclass(frozen=True, slots=True)
class Use:
    """The origin of a recipe and the settings of its training.

    Attributes:
        source: The source of the recipe, in words: a trial or a file.
        value: The value that it reached; None if it is unknown.
        monitor: The metric of that value, and of a schedule that follows it.
        mode: Whether to minimize or maximize that metric.
        length: The full length of its training; empty if it is unknown.
        seed: The seed of its training; None if it is unknown.
        has_own_groups: Whether the module's own optimizer had several parameter groups, whose ratios were kept.
        is_manual: Whether the module optimizes manually.
        model_name: The class of the module; empty if it is unknown.
        replaced: The module's own optimizer, in words; empty if it is unknown.
        call: Python text that trains with the recipe file.
    """

    source: str
    value: float | None = None
    monitor: str = "val_loss"
    mode: Mode = "min"
    length: Mapping[str, int] = field(default_factory=dict)
    seed: int | None = None
    has_own_groups: bool = False
    is_manual: bool = False
    model_name: str = ""
    replaced: str = ""
    call: str = ""

    @property
    def code_comments(self) -> list[str]:
        """The comment lines above exported code."""
        lines = self.comments[: 2 if self.length else 1]
        if self.value is not None:
            # opttune validates after the last step, a Trainer at the end of an epoch
            lines.append(
                f"its {self.monitor} is that after the last step: after trainer.fit(model, ...), "
                "trainer.validate(model, ...) gives it"
            )
        if self.seed is None:
            return lines
        return [*lines, f"before the module is made: seed_everything({self.seed}, workers=True)"]

    @property
    def class_name(self) -> str:
        """The class of the module, if code can name it; else empty."""
        return self.model_name if self.model_name.isidentifier() else ""

    @property
    def comments(self) -> list[str]:
        """The comment lines above an exported recipe."""
        reached = "" if self.value is None else f": {self.monitor} {self.value:.6g}"
        lines = [f"{self.source}{reached}"]
        if self.length:
            length = ", ".join(f"{name}={count}" for name, count in self.length.items())
            lines.append(f"length: {length}; seed: {self.seed}")
        return [*lines, f"to train with it: {self.call}"] if self.call else lines
