"""What is installed does not change while tests run: it is looked up once."""

import sys
from functools import cache


def ask_once() -> None:
    """Let Lightning, where it is loaded, read the entry points of all installed packages once, not for each Trainer.

    It takes longer than all else that a Trainer does when it is made.
    """
    for namespace in ("lightning.fabric", "lightning_fabric"):
        registry = sys.modules.get(f"{namespace}.utilities.registry")
        if registry is not None:
            registry.entry_points = cache(registry.entry_points)  # type: ignore[attr-defined]
