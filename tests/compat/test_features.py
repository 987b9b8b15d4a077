"""Each feature of Lightning trains through the real Trainer with a recipe, or is refused with the reason."""

import warnings
from pathlib import Path

import pytest

from opttune.errors import OpttuneError
from opttune.outcome import StopReason
from opttune.recipe import Part, Recipe
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.inspection import inspect_model
from opttune.training.workload import Workload
from tests.compat.features import FEATURES, Feature

RECIPE = Recipe(Part("adamw", {"lr": 1e-2}), Part("cosine"))


@pytest.mark.parametrize("row", FEATURES, ids=lambda row: row.words)
def test_a_feature_works_or_is_refused(row: Feature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = {"accelerator": "cpu", **row.trainer, **row.length}
    workload = Workload(row.model, row.data)
    attempt = Attempt(RECIPE, row.monitor, 0, trainer, checkpoint=tmp_path / "end.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row.refused:
            with pytest.raises(OpttuneError, match=row.refused):
                inspect_model(attempt, workload, steps=1)
            return
        inspection = inspect_model(attempt, workload, steps=1)
        outcome = run_attempt(attempt, workload, NullListener())
    assert outcome.reason is StopReason.COMPLETED, outcome.message
    assert outcome.steps == inspection.total_steps > 1
    assert outcome.value is not None
    assert (tmp_path / "end.ckpt").exists()
