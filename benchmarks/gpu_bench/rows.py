"""What the checks are given, and what they find."""

import io
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

NOT_ON_CPU = "not on cpu"


@dataclass(frozen=True)
class Row:
    """One line of the table; `ok` is None where the device has nothing to check."""

    check: str
    what: str
    expected: str
    seen: str
    ok: bool | None
    figures: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """Where a check runs: the device, and a folder for its files. On a CPU sizes are small."""

    device: str
    folder: Path

    @property
    def is_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def trainer(self) -> dict[str, Any]:
        return {"accelerator": "gpu" if self.is_gpu else "cpu", "devices": 1}

    @property
    def mlflow(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def size(self, gpu: int, cpu: int) -> int:
        return gpu if self.is_gpu else cpu

    def only_gpu(self, check: str, what: str, expected: str) -> Row:
        return Row(check, what, expected, NOT_ON_CPU, None)


def allocated() -> int:
    """Return the bytes of tensors that this process holds on the GPU."""
    import torch

    return torch.cuda.memory_allocated()


def table_of(rows: list[Row]) -> str:
    table = Table(show_lines=False)
    for name in ("check", "expected", "seen", "ok"):
        table.add_column(name, overflow="fold")
    for row in rows:
        mark = {True: "yes", False: "NO", None: ""}[row.ok]
        table.add_row(*map(Text, (f"{row.check} {row.what}", row.expected, row.seen, mark)))
    text = io.StringIO()
    with redirect_stdout(text):
        Console(file=text, width=150).print(table)
    return text.getvalue()
