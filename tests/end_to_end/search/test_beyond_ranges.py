"""A learning rate far from a shipped range: the line search finds it, the model refines it, a later search keeps it."""

from pathlib import Path
from typing import Any

import torch

from opttune.study.result import SearchResult
from tests.support.search_models import Classifier, loaders
from tests.support.searches import run_search


class FarTooSlow(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=3e-4)


def search(folder: Path, **settings: Any) -> SearchResult:
    how: dict[str, Any] = {"space": "own", "data": loaders, "budget": 6, "trials": 10}
    return run_search(folder, FarTooSlow, **{**how, **settings})


def test_the_model_refines_a_rate_that_the_line_search_found_beyond_the_range(tmp_path: Path) -> None:
    result = search(tmp_path)
    factors = [factor for factor in result.trials["lr_factor"].tolist() if factor == factor]

    assert factors[:3] == [1.0, 10.0, 100.0]
    assert any(10 < factor < 100 for factor in factors[3:])
    # the catalog's end of the line search is the end of all
    assert max(factors) == 100.0
