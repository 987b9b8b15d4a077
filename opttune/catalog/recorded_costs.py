"""What a training step of each optimizer cost where it was measured, over a step of AdamW's.

`benchmarks/step_costs.py` measures it and writes `recorded_costs.json`. The figures are shown beside the rows, and no
search decides by them: what a step costs depends on module, batch and device, so a search measures its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_suffix(".json")
"""Where the figures lie."""


@dataclass(frozen=True, slots=True)
class RecordedCost:
    """What a training step of one optimizer cost.

    Attributes:
        ratio: Its time over that of AdamW's, the median of all rounds.
        low: The least of them.
        high: The largest.
        memory: Its peak memory over AdamW's, weights and activations included; None where it was not measured.
    """

    ratio: float
    low: float
    high: float
    memory: float | None = None


@dataclass(frozen=True, slots=True)
class CostTable:
    """The figures of one device.

    Attributes:
        device: `cpu` or `gpu`.
        about: On what they were measured: the device, and versions.
        model: What was trained, in words.
        parameters: How many numbers the optimizer updates.
        adamw_ms: Milliseconds of AdamW's training step.
        bare: Share of them that a step without any optimizer takes.
        costs: Optimizer -> its cost.
        left_out: Optimizer -> why it was not measured.
    """

    device: str
    about: str
    model: str
    parameters: int
    adamw_ms: float
    bare: float
    costs: Mapping[str, RecordedCost]
    left_out: Mapping[str, str]

    @classmethod
    def from_dict(cls, device: str, fields: Mapping[str, Any]) -> "CostTable":
        """Read what `to_dict` returned."""
        costs = {name: RecordedCost(**cost) for name, cost in fields["costs"].items()}
        return cls(device, **{**fields, "costs": costs})

    def to_dict(self) -> dict[str, Any]:
        """Return all but the device as plain values."""
        costs = {
            name: {"ratio": cost.ratio, "low": cost.low, "high": cost.high, "memory": cost.memory}
            for name, cost in self.costs.items()
        }
        return {
            "about": self.about,
            "model": self.model,
            "parameters": self.parameters,
            "adamw_ms": self.adamw_ms,
            "bare": self.bare,
            "costs": costs,
            "left_out": dict(self.left_out),
        }

    @property
    def words(self) -> str:
        """On what the figures were measured, in a sentence."""
        return (
            f"Measured on a {self.device.upper()} ({self.about}) with {self.model}, {self.parameters:,} parameters: "
            f"AdamW's step took {self.adamw_ms:.3g} ms, {self.bare:.0%} of it without any optimizer."
        )

    def cost_words(self, name: str) -> str:
        """Return what a step of an optimizer cost, in words; empty where nothing is known of it."""
        if name in self.left_out:
            return f"not measured on a {self.device.upper()}: {self.left_out[name]}"
        cost = self.costs.get(name)
        if cost is None:
            return ""
        memory = "" if cost.memory is None else f", {cost.memory:.2f} x its memory"
        spread = f"{cost.low:.2f} to {cost.high:.2f}"
        return f"{cost.ratio:.2f} x AdamW's ({spread}){memory} on a {self.device.upper()}"


@cache
def recorded_costs() -> tuple[CostTable, ...]:
    """Return the figures of each device that was measured.

    Example:
        >>> [table.device for table in recorded_costs()][0]
        'cpu'
    """
    return read_costs(PATH)


def read_costs(path: Path) -> tuple[CostTable, ...]:
    """Return the figures that a file holds; none where there is no file."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return tuple(CostTable.from_dict(device, fields) for device, fields in found.items())


def write_costs(path: Path, table: CostTable) -> None:
    """Write the figures of one device into a file, beside those of others."""
    found = {one.device: one for one in read_costs(path)} | {table.device: table}
    plain = {device: found[device].to_dict() for device in sorted(found)}
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
