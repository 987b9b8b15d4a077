"""Many trials in one process of a model with a large state: what a training took is given back.

`OPTTUNE_TEST_TRIALS` sets how many; CI does fourteen.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from opttune.engines.memory import rss_bytes
from tests.support.search_models import Classifier, loaders
from tests.support.searches import run_search

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("OPTTUNE_TEST_TRIALS", "14"))
MEGABYTE = 2**20


class Large(Classifier):
    """Has 50 MB of weights, and with AdamW twice as much again; notes what the process holds before each training."""

    resident: list[int] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        Large.resident.append(rss_bytes())
        self.large = nn.Parameter(torch.zeros(50 * MEGABYTE // 4))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) + self.large[:8].sum() * 0.0


def test_the_memory_of_the_process_does_not_grow_with_the_trials(tmp_path: Path) -> None:
    Large.resident = []
    settings = {"data": loaders, "max_steps": 2, "budget": 10 * TRIALS, "trials": TRIALS, "baseline": False}
    found = run_search(tmp_path, Large, **settings)
    after_ten, most = Large.resident[10], max(Large.resident[10:])

    assert len(found.trials) == TRIALS
    assert len(Large.resident) > TRIALS
    assert most - after_ten < 100 * MEGABYTE
