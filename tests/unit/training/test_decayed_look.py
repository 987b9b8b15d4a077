"""Looks at paused trainings: a copy whose rate comes down gives the value, and the training itself does not notice."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from opttune import Recipe
from opttune.build.schedule import has_curve, multiplier
from opttune.catalog.lookup import find_schedule
from opttune.catalog.schedules import SCHEDULES
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.decayed_look import DecayToEnd, end_share
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


class SetByHand(Line):
    """The same with a rate that the module itself lets fall, as nanoGPT does."""

    def on_train_batch_start(self, batch, batch_idx):
        for group in self.optimizers().param_groups:
            group["lr"] = 1e-4 * (1 - self.global_step / STEPS)


class FindsItsRate(torch.optim.SGD):
    """An optimizer whose groups have no rate, as transformers' Adafactor with `relative_step`."""

    def __init__(self, parameters) -> None:
        super().__init__(parameters, lr=1e-4)
        for group in self.param_groups:
            group["lr"] = None

    def step(self, closure=None):
        loss = closure()
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter -= 1e-4 * parameter.grad
        return loss


class WithoutRate(Line):
    """The same with such an optimizer."""

    def configure_optimizers(self):
        return FindsItsRate(self.parameters())


class Pair(lightning.LightningModule):
    """Two slopes that fall by the rate in each step, each with its optimizer; the first one has a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.slopes = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(())) for _ in range(2)])
        self.seen: list[list[float]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append([slope.item() for slope in self.slopes])
        for optimizer, slope in zip(self.optimizers(), self.slopes, strict=True):
            optimizer.zero_grad()
            self.manual_backward(slope)
            optimizer.step()

    def configure_optimizers(self):
        optimizers = [torch.optim.SGD([slope], lr=1.0) for slope in self.slopes]
        return optimizers, [torch.optim.lr_scheduler.LambdaLR(optimizers[0], lambda _: 1.0)]


def loaders():
    data = TensorDataset(INPUTS)
    return DataLoader(data, batch_size=8), DataLoader(data, batch_size=8)


def train(
    folder: Path,
    recipe: Recipe | None,
    until: int,
    look: int = LOOK,
    resume: bool = False,
    only_look: bool = False,
    model=Line,
    **more,
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
        only_look=only_look,
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
# constant until after the look
WSD = Recipe(SGD, Part("wsd", {"cooldown_fraction": 0.2, "final_lr_fraction": 0.0, "cooldown_shape": "linear"}))
OWN = Recipe(Part("own", {"lr_factor": 3.0}), Part("own"))


def falling(rate: float, end: float) -> list[float]:
    return [rate * (1 - (1 - end) * step / LOOK) for step in range(LOOK)]


@pytest.mark.parametrize(
    ("recipe", "model", "rate", "end"),
    [
        (CONSTANT, Line, 5e-4, 1.0),
        (WSD, Line, 5e-4, 0.0),
        (replace(WSD, schedule=WSD.schedule.replaced(final_lr_fraction=0.6)), Line, 5e-4, 0.6),
        (OWN, Line, 3e-4, 1.0),
        (OWN, Scheduled, 3e-4, 0.0),
        (Recipe.of_baseline(), Line, 1e-4, 1.0),
        (Recipe.of_baseline(), Scheduled, 1e-4, 0.0),
        (None, Scheduled, 1e-4, 0.0),
        (None, WithoutRate, 1e-4, 1.0),
    ],
)
def test_the_value_is_that_of_a_copy_whose_rate_falls_to_the_end_of_its_schedule(tmp_path, recipe, model, rate, end):
    outcome = train(tmp_path, recipe, RUNG, model=model)
    assert outcome.value == pytest.approx(distance_after([rate] * RUNG + falling(rate, end)), rel=1e-4)
    assert (outcome.reason, outcome.steps, outcome.look_steps) == (StopReason.PAUSED, RUNG, LOOK)


def test_a_rate_that_the_module_sets_falls_to_zero(tmp_path):
    outcome = train(tmp_path, Recipe.of_baseline(), RUNG, model=SetByHand)
    own = [1e-4 * (1 - step / STEPS) for step in range(RUNG + LOOK)]
    rates = own[:RUNG] + [rate * (LOOK - step) / LOOK for step, rate in enumerate(own[RUNG:])]
    assert outcome.value == pytest.approx(distance_after(rates), rel=1e-5)


def test_each_of_several_optimizers_falls_to_the_end_of_its_schedule():
    module = Pair()
    trainer = lightning.Trainer(
        max_steps=10,
        accelerator="cpu",
        callbacks=[DecayToEnd(None, begin=0, steps=8)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(INPUTS), batch_size=1))
    # each batch counts two steps
    fallen = [[before - after for before, after in zip(*pair, strict=True)] for pair in pairwise(module.seen)]
    assert fallen == [[1.0, 1.0], [0.75, 1.0], [0.5, 1.0], [0.25, 1.0]]


CURVES = [row.name for row in SCHEDULES if has_curve(row)]


@pytest.mark.parametrize("step", [5, 23, 200, 719, 999])
@pytest.mark.parametrize("name", CURVES)
def test_a_look_ends_at_the_last_rate_of_its_schedule_or_stays_below_it(name, step):
    options = {option.name: option.default for option in find_schedule(name).options}
    schedule, total = Part(name, {**options, "warmup_fraction": 0.05}), 1_000
    factor = multiplier(schedule, total)
    assert factor(step) * end_share(schedule, step, total) == pytest.approx(min(factor(step), factor(999)), abs=0.01)


def test_a_schedule_that_follows_the_metric_falls_to_its_floor():
    assert end_share(Part("plateau", {"final_lr_fraction": 0.25}), 5, 10) == 0.25
    assert end_share(Part("plateau"), 5, 10) == 0.0


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


def test_a_stopped_look_is_repeated(tmp_path):
    undisturbed = train(tmp_path / "other", CONSTANT, RUNG)
    stopped = train(tmp_path, CONSTANT, RUNG, stop=StopsInTheLook())
    assert stopped.is_look_stopped
    assert 0 < stopped.look_steps < LOOK
    assert stopped.value == pytest.approx(distance_after([5e-4] * RUNG), rel=1e-4)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [f"{RUNG}.ckpt"]

    again = train(tmp_path, CONSTANT, RUNG, only_look=True)
    assert not again.is_look_stopped
    shown = (again.reason, again.value, again.steps, again.look_steps, again.total_steps)
    assert shown == (StopReason.PAUSED, undisturbed.value, RUNG, LOOK, STEPS)


def test_a_repeated_look_that_fails_has_no_value(tmp_path):
    train(tmp_path, CONSTANT, RUNG)

    class Broken(Line):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("out of luck")

    again = train(tmp_path, CONSTANT, RUNG, only_look=True, model=Broken)
    assert (again.reason, again.value, again.steps, again.look_steps) == (StopReason.PAUSED, None, RUNG, 0)


def test_an_outcome_keeps_the_steps_of_its_look():
    outcome = Outcome(StopReason.PAUSED, 0.5, RUNG, STEPS, 1.0, look_steps=LOOK)
    assert Outcome.from_dict(outcome.to_dict()) == outcome
    stored = {name: value for name, value in outcome.to_dict().items() if name != "look_steps"}
    assert Outcome.from_dict(stored) == replace(outcome, look_steps=0)
