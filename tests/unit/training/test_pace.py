"""The expected time of a training, by the clock of an inspection."""

from itertools import count

import pytest

from opttune.recipe import Part, Recipe
from opttune.training import pace
from opttune.training.attempt import Attempt, NullListener, TrainingRun
from opttune.training.inspection import inspect_model
from opttune.training.workload import Workload
from tests.support import models as m


class SteppingTwice(m.ManualNet):
    """Its optimizer steps twice with each batch."""

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        return super().training_step(batch, batch_idx)


def fitted(monkeypatch: pytest.MonkeyPatch, steps: int, model: type = m.Net, **trainer: object) -> TrainingRun:
    """Train as an inspection does; the validation is timed by a clock that a second passes by each time it is read."""
    ticks = count()
    monkeypatch.setattr(pace, "monotonic", lambda: float(next(ticks)))
    attempt = Attempt(Recipe(Part("sgd", {"lr": 0.01})), "val_loss", 0, {"accelerator": "cpu", **trainer})
    run = TrainingRun(attempt, NullListener(), stop_at_step=steps)
    run.fit(Workload(model, m.loaders))
    return run


@pytest.mark.parametrize(
    ("trainer", "model", "expected"),
    [
        ({"max_steps": 40}, m.Net, 40 + 5),
        ({"max_steps": -1, "max_epochs": 5}, m.Net, 40 + 5),
        ({"max_steps": 40, "val_check_interval": 0.5}, m.Net, 40 + 10),
        ({"max_steps": 40, "check_val_every_n_epoch": 5}, m.Net, 40 + 1),
        ({"max_steps": 40, "accumulate_grad_batches": 2}, m.Net, 40 + 10),
        ({"max_steps": 40}, SteppingTwice, 40 + 20 / 8),
    ],
)
def test_steps_and_validations_of_the_full_length_are_counted(
    trainer: dict[str, object], model: type, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted(monkeypatch, 3, model, **trainer)
    assert run.pace is not None

    assert run.pace.seconds(1.0, run.trainer, run.total_steps) == pytest.approx(expected)


@pytest.mark.parametrize(("steps", "is_known"), [(0, False), (1, False), (3, True)])
def test_nothing_is_told_from_the_first_step(steps: int, is_known: bool) -> None:
    attempt = Attempt(Recipe(Part("sgd", {"lr": 0.01})), "val_loss", 0, {"accelerator": "cpu", "max_steps": 40})

    assert (inspect_model(attempt, Workload(m.Net, m.loaders), steps).seconds is not None) is is_known
