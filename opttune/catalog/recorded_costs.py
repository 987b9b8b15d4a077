"""The measured time of a training step of each optimizer, relative to AdamW's.

`benchmarks/step_costs.py` measures it and writes `recorded_costs.json`. The catalog shows the figures beside the rows.
No search uses them: the cost of a step depends on module, batch and device, so a search measures its own.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_suffix(".json")
"""The file with the figures."""


@dataclass(frozen=True, slots=True)
class RecordedCost:
    """The cost of a training step of one optimizer.

    Attributes:
        ratio: Its time relative to AdamW's: the median of all rounds.
        low: The smallest of the rounds.
        high: The largest of the rounds.
        memory: Its peak memory relative to AdamW's, including weights and activations.
    """

    ratio: float
    low: float
    high: float
    memory: float


@dataclass(frozen=True, slots=True)
class CostTable:
    """The figures of one device.

    Attributes:
        device: `cpu` or `gpu`.
        about: The measured device and the versions, in words.
        model: The trained model, in words.
        parameters: The number of updated parameters.
        adamw_ms: Milliseconds of AdamW's training step.
        bare: The share of this time that a step takes without an optimizer.
        costs: Optimizer -> its cost.
        left_out: Optimizer -> the reason why it was not measured.
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
        """Read a table from its plain values."""
        costs = {name: RecordedCost(**cost) for name, cost in fields["costs"].items()}
        return cls(device, **{**fields, "costs": costs})

    @property
    def words(self) -> str:
        """The conditions of the measurement, in a sentence."""
        return (
            f"Measured on a {self.device.upper()} ({self.about}) with {self.model}, {self.parameters:,} parameters: "
            f"AdamW's step took {self.adamw_ms:.3g} ms, {self.bare:.0%} of it without any optimizer."
        )

    def cost_words(self, name: str) -> str:
        """Return the cost of an optimizer's step in words; empty if nothing is known."""
        if name in self.left_out:
            return f"not measured on a {self.device.upper()}: {self.left_out[name]}"
        cost = self.costs.get(name)
        if cost is None:
            return ""
        spread = f"{cost.low:.2f} to {cost.high:.2f}"
        return f"{cost.ratio:.2f} x AdamW's ({spread}), {cost.memory:.2f} x its peak memory on a {self.device.upper()}"


@cache
def recorded_costs() -> tuple[CostTable, ...]:
    """Return the figures of each measured device.

    Example:
        >>> [table.device for table in recorded_costs()][0]
        'cpu'
    """
    return read_costs(PATH)


def read_costs(path: Path) -> tuple[CostTable, ...]:
    """Return the figures in a file; none if there is no file."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return tuple(CostTable.from_dict(device, fields) for device, fields in found.items())


def write_costs(path: Path, table: CostTable) -> None:
    """Write the figures of one device into a file, beside those of other devices."""
    found = {one.device: one for one in read_costs(path)} | {table.device: table}
    plain = {device: asdict(found[device]) for device in sorted(found)}
    for fields in plain.values():
        del fields["device"]
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
