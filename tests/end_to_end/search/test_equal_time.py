"""With the budget in time, an optimizer with costly steps wins only where it earns its cost."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import opttune
from opttune.catalog import lookup
from opttune.catalog.lookup import find_optimizer, register_optimizer
from opttune.study.frozen_study import load_study
from opttune.tracking.settings import Tracking
from tests.support.searches import Tracked, make_space

EXAMPLES = Path(__file__).parents[3] / "examples"
STEPS = 40

pytestmark = pytest.mark.slow


class TenTimesAsLong(torch.optim.AdamW):
    """AdamW whose step makes that of the whole training take ten times as long, on however busy a machine."""

    last: float | None = None

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        if self.last is not None:
            time.sleep(9 * min(0.1, time.perf_counter() - self.last))
        self.last = time.perf_counter()
        return loss


@pytest.fixture
def language_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    monkeypatch.setattr(lookup._OPTIMIZERS, "rows", dict(lookup._OPTIMIZERS.rows))
    register_optimizer(replace(find_optimizer("adamw"), name="costly", class_path=TenTimesAsLong))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import language_model as example

    text = example.library_text(files=3)
    pieces = text[: len(text) // 65 * 65].reshape(-1, 65)
    loaders = (
        DataLoader(TensorDataset(pieces[64:]), batch_size=4, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(pieces[:64]), batch_size=64),
    )
    yield partial(example.CharacterTransformer, 16), loaders
    sys.modules.pop("language_model", None)


def search(folder: Path, given: tuple[Any, Any], adamw_lr: float, **settings: Any) -> Any:
    space = make_space(f"optimizer: {{costly: {{lr: 0.02}}, adamw: {{lr: {adamw_lr}}}}}\nschedule: {{cosine: {{}}}}\n")
    return opttune.search(
        *given, space=space, max_steps=STEPS, budget=2, baseline=False, pauses=False, study="s", out_dir=folder,
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", tracking=Tracking(report=False), progress=False,
        trainer={"accelerator": "cpu"}, **settings,
    )  # fmt: skip


def test_of_equal_steps_the_costly_one_wins_and_a_warning_says_what_it_costs(
    tmp_path: Path, language_model: tuple[Any, Any]
) -> None:
    result = search(tmp_path, language_model, adamw_lr=8e-3)

    assert result.best_recipe.optimizer.name == "costly"
    assert list(result.trials["steps"]) == [STEPS, STEPS]
    assert result.trials["seconds_spent"].is_monotonic_increasing
    assert result.trials["step_seconds"].max() > 3 * result.trials["step_seconds"].min()
    curve = Tracked(tmp_path).curve(Tracked(tmp_path).parent, "best/objective_over_seconds")
    assert curve[-1][1] == result.best_value


def test_of_equal_time_it_does_not(tmp_path: Path, language_model: tuple[Any, Any]) -> None:
    result = search(tmp_path, language_model, adamw_lr=8e-3, budget_unit="time")
    rows = result.trials.set_index("optimizer")

    assert result.best_recipe.optimizer.name == "adamw"
    # in as much time it has done a tenth of the steps, at the whole of its schedule
    assert rows.loc["costly", "steps"] < STEPS / 3
    assert rows.loc["costly", "reason"] == rows.loc["adamw", "reason"] == "completed"
    assert result.steps_spent == 2 * STEPS
    # the study keeps what was measured
    again = search(tmp_path, language_model, adamw_lr=8e-3, budget_unit="time")
    assert again.config.step_costs == result.config.step_costs


def test_where_it_is_better_in_a_tenth_of_the_steps_it_wins(tmp_path: Path, language_model: tuple[Any, Any]) -> None:
    result = search(tmp_path, language_model, adamw_lr=1e-6, budget_unit="time")
    study = load_study(tmp_path)
    steps = study.config.length_of(result.best_recipe, STEPS)["max_steps"]

    assert result.best_recipe.optimizer.name == "costly"
    assert steps == result.trials.set_index("optimizer").loc["costly", "steps"] < STEPS / 3
    assert f"max_steps={steps}," in result.answer.trainer_call()
    assert f"max_steps={steps};" in (tmp_path / "best_recipe.yaml").read_text()
