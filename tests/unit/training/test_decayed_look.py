"""Looks at paused trainings: a copy whose rate comes down gives the value, and the training itself does not notice."""

from dataclasses import replace
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from opttune import Recipe
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.stop import StopSwitch
from opttune.training.workload import Workload

STEPS, RUNG, LOOK = 40, 20, 5
INPUTS = torch.arange(1.0, 9.0)[:, None]


class Line(lightning.LightningModule):
    """The slope of a line, so that every step is known by a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return ((self.slope * batch[0] - 2 * batch[0]) ** 2).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", (self.slope - 2).abs().sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


class Scheduled(Line):
    """The same with a scheduler, which leaves the rate unchanged."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)]


def loaders():
    data = TensorDataset(INPUTS)
    return DataLoader(data, batch_size=8), DataLoader(data, batch_size=8)


def train(
    folder: Path, recipe: Recipe | None, until: int, look: int = LOOK, resume: bool = False, model=Line, **more
) -> Outcome:
    attempt = Attempt(
        recipe=recipe,
        monitor="val_loss",
        seed=0,
        trainer={"max_steps": STEPS, "accelerator": "cpu"},
        checkpoint=folder / f"{until}.ckpt",
        until_step=None if until == STEPS else until,
        resume_from=folder / f"{RUNG}.ckpt" if resume else None,
        look_steps=look,
    )
    return run_attempt(attempt, Workload(model, loaders), NullListener(), **more)


def distance_after(rates: list[float]) -> float:
    """The distance of the slope from 2 after gradient descent: each step takes away twice the rate times E[x^2]."""
    left = 2.0
    for rate in rates:
        left *= 1 - 2 * rate * float((INPUTS**2).mean())
    return left


SGD = Part("sgd", {"lr": 5e-4, "momentum": 0.0, "nesterov": False})
CONSTANT = Recipe(SGD, Part("constant"))
# as good as constant up to the rung
WSD = Recipe(SGD, Part("wsd", {"cooldown_fraction": 0.2, "final_lr_fraction": 0.0, "cooldown_shape": "linear"}))
OWN = Recipe(Part("own", {"lr_factor": 3.0}), Part("own"))


def falling(rate: float, end: float) -> list[float]:
    return [rate * (1 - (1 - end) * step / LOOK) for step in range(LOOK)]


@pytest.mark.parametrize(
    ("recipe", "model", "rate", "end"),
    [
        (CONSTANT, Line, 5e-4, 1.0),
        (WSD, Line, 5e-4, 1 / 8),
        (replace(WSD, schedule=WSD.schedule.replaced(final_lr_fraction=0.6)), Line, 5e-4, 0.65),
        (OWN, Line, 3e-4, 1.0),
        (OWN, Scheduled, 3e-4, 0.0),
        (Recipe.of_baseline(), Line, 1e-4, 1.0),
        (Recipe.of_baseline(), Scheduled, 1e-4, 0.0),
        (None, Scheduled, 1e-4, 0.0),
    ],
)
def test_the_value_is_that_of_a_copy_whose_rate_falls_to_the_end_of_its_schedule(tmp_path, recipe, model, rate, end):
    outcome = train(tmp_path, recipe, RUNG, model=model)
    assert outcome.value == pytest.approx(distance_after([rate] * RUNG + falling(rate, end)), rel=1e-4)
    assert (outcome.reason, outcome.steps, outcome.look_steps) == (StopReason.PAUSED, RUNG, LOOK)


def test_the_training_itself_does_not_notice(tmp_path):
    train(tmp_path, CONSTANT, RUNG)
    resumed = train(tmp_path, CONSTANT, STEPS, resume=True)
    assert resumed.value == pytest.approx(distance_after([5e-4] * STEPS), rel=1e-4)
    assert (resumed.reason, resumed.steps, resumed.look_steps) == (StopReason.COMPLETED, STEPS, 0)


def test_a_look_may_reach_the_end(tmp_path):
    outcome = train(tmp_path, OWN, STEPS - 2, model=Scheduled)
    assert outcome.value == pytest.approx(distance_after([3e-4] * (STEPS - 2) + [3e-4, 2.4e-4]), rel=1e-3)
    assert outcome.look_steps == 2


def test_without_a_look_the_value_is_that_at_the_rung(tmp_path):
    outcome = train(tmp_path, CONSTANT, RUNG, look=0)
    assert outcome.value == pytest.approx(distance_after([5e-4] * RUNG), rel=1e-4)
    assert outcome.look_steps == 0


class StopsInTheLook(StopSwitch):
    """Requests an end at the second step after the pause."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    @property
    def stop_requested(self) -> bool:
        self._asked += 1
        return self._asked > RUNG

    @stop_requested.setter
    def stop_requested(self, value: bool) -> None:
        pass


def test_a_stopped_look_leaves_the_value_at_the_rung_and_the_pause(tmp_path):
    outcome = train(tmp_path, CONSTANT, RUNG, stop=StopsInTheLook())
    assert outcome.reason is StopReason.PAUSED
    assert outcome.value == pytest.approx(distance_after([5e-4] * RUNG), rel=1e-4)
    assert outcome.look_steps < LOOK
    assert (tmp_path / f"{RUNG}.ckpt").exists()
    assert not list(tmp_path.glob("*.part"))


def test_an_outcome_keeps_the_steps_of_its_look():
    outcome = Outcome(StopReason.PAUSED, 0.5, RUNG, STEPS, 1.0, look_steps=LOOK)
    assert Outcome.from_dict(outcome.to_dict()) == outcome
    stored = {name: value for name, value in outcome.to_dict().items() if name != "look_steps"}
    assert Outcome.from_dict(stored) == replace(outcome, look_steps=0)
