"""A learning rate far from a shipped range: the line search finds it, the model refines it, a later search keeps it."""

from pathlib import Path
from typing import Any

import torch

from opttune.study.result import SearchResult
from tests.support.search_models import Classifier, loaders
from tests.support.searches import make_space, run_search


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


def test_a_warm_start_keeps_that_rate_and_says_what_it_must_change(tmp_path: Path) -> None:
    earlier = search(tmp_path, out_dir=tmp_path / "old", study="old")
    factor = earlier.best_recipe.optimizer["lr_factor"]
    assert isinstance(factor, float)
    assert factor > 10

    again = search(tmp_path, warm_start=tmp_path / "old", study="new", budget=2, trials=1)
    assert again.trials["lr_factor"][0] == factor
    assert again.config.space_warnings == ()

    text = "optimizer: {own: {lr_factor: {low: 0.1, high: 10, log: true}}}\nschedule: {own: {}}"
    walled = search(
        tmp_path, warm_start=tmp_path / "old", study="mine", out_dir=tmp_path / "mine", space=make_space(text, "mine"),
        budget=2, trials=1,
    )  # fmt: skip
    assert walled.trials["lr_factor"][0] == 10
    assert walled.config.space_warnings == (
        f"The own.lr_factor {factor:.3g} of {earlier.answer.trial} of old became 10: the space mine allows 0.1 to 10.",
    )
