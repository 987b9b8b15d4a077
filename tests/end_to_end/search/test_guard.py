"""Infeasible learning rates on the modules of the examples: what the study and MLflow know of them afterwards."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from lightning import LightningModule

from opttune.references import load_reference
from tests.support.searches import Tracked, make_space, run_search

EXAMPLES = Path(__file__).parents[3] / "examples"
STEPS = 400
LATEST = int(0.03 * STEPS)
SPACE = """
description: a learning rate that comes to nothing
optimizer: {{{optimizer}: {{lr: {{choices: [{lr}], source: test}}}}}}
schedule: {{constant: {{}}}}
"""


def example(name: str) -> Any:
    return load_reference(f"{EXAMPLES / name}", "MODEL")


class Counted:
    """Counts validation batches for each model, the latest last."""

    counts: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.counts.append(0)

    def validation_step(self, batch, batch_idx):
        self.counts[-1] += 1
        return super().validation_step(batch, batch_idx)


class NanAtStep7(example("digits.py:DigitsClassifier")):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * torch.nan if self.global_step == 6 else loss


def counted(model: type[LightningModule]) -> type[LightningModule]:
    return type(model.__name__, (Counted, model), {"counts": []})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "loaders", "optimizer", "lr", "latest"),
    [
        (example("digits.py:DigitsClassifier"), example("digits.py:digits_loaders"), "sgd", 1e3, LATEST),
        (example("digits.py:DigitsClassifier"), example("digits.py:digits_loaders"), "adam", 1e3, LATEST),
        (example("lstm.py:CharacterLstm"), example("lstm.py:loaders"), "sgd", 1e3, LATEST),
        (example("language_model.py:CharacterTransformer"), example("language_model.py:loaders"), "adam", 1e3, LATEST),
        (NanAtStep7, example("digits.py:digits_loaders"), "adam", 1e-3, 12),
    ],
)
def test_it_is_stopped_in_its_first_steps_and_never_validated(
    tmp_path: Path, module: type[LightningModule], loaders: Any, optimizer: str, lr: float, latest: int
) -> None:
    model = counted(module)
    result = run_search(
        tmp_path, model, data=loaders, space=make_space(SPACE.format(optimizer=optimizer, lr=lr)), max_steps=STEPS,
        trials=1, baseline=False, pauses=False,
    )  # fmt: skip
    (row,) = result.trials.itertuples()
    (trial,) = result.study.trials
    (run,) = Tracked(tmp_path).children

    assert row.steps <= latest
    assert row.reason in (("blow_up", "non_finite") if lr > 1 else ("non_finite",))
    assert (trial.state, row.reason) == (optuna.trial.TrialState.PRUNED, run.data.tags["opttune.reason"])
    assert (run.info.status, run.data.tags["opttune.state"]) == ("KILLED", "diverged")
    assert run.data.tags["opttune.stopped_at_step"] == str(row.steps)
    assert not [name for name in run.data.metrics if name.startswith("val")]
    # the look at the model before the search validates another copy of it
    assert model.counts[-1] == 0
