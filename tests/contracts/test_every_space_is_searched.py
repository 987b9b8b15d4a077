"""Each shipped space is searched for three trials, through the real Trainer."""

import pytest

import opttune
from opttune.catalog import find_optimizer
from opttune.space.parse import load_space, space_names
from opttune.tracking.settings import Tracking
from tests.support import models as m
from tests.support.searches import make_database


@pytest.mark.slow
@pytest.mark.parametrize("name", space_names())
def test_three_trials_of_every_space(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_database(tmp_path)
    result = opttune.search(
        m.Net,
        m.loaders,
        space=name,
        max_steps=10,
        budget=4,
        trials=3,
        out_dir=tmp_path / "out",
        trainer={"accelerator": "cpu"},
        progress=False,
        tracking=Tracking(report=False),
    )
    names = {branch.name for branch in load_space(name).optimizers}
    # the baseline is a trial where the space holds it, and not one of those that were asked for
    assert list(result.trials["state"]) == ["complete"] * (3 + ("own" in names))
    assert set(result.trials["optimizer"]) <= names
    for optimizer, clip in zip(result.trials["optimizer"], result.trials["gradient_clip_norm"], strict=True):
        assert not (find_optimizer(optimizer).own_clipping and clip == clip and clip is not None)
