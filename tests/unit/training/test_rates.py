"""The learning rate that each step really uses, through the real Trainer."""

import math

import lightning.pytorch as pl
import pytest
import torch

from opttune import Recipe
from opttune.build.schedule import build_scheduler
from opttune.recipe import Part
from opttune.training.length import count_steps
from tests.support import models as m
from tests.support.fits import LR, fit, recipe_with


def torch_rates(schedule, total, base=LR):
    """The same schedule by torch's own schedulers."""
    warmup = round(schedule.get("warmup_fraction", 0) * total)
    floor, rest = schedule.get("final_lr_fraction", 0), total - warmup
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    schedulers = torch.optim.lr_scheduler
    main = {
        "constant": lambda: schedulers.ConstantLR(optimizer, factor=1, total_iters=rest),
        "linear": lambda: schedulers.LinearLR(optimizer, 1, floor, total_iters=rest),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, rest, eta_min=floor * base),
    }[schedule.name]()
    scheduler = main
    if warmup:
        rise = schedulers.LinearLR(optimizer, 1 / warmup, 1, total_iters=warmup - 1)
        scheduler = schedulers.SequentialLR(optimizer, [rise, main], milestones=[warmup])
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def formula(schedule, total, base=LR):
    """The published formula, written out once more."""
    warmup, floor = round(schedule.get("warmup_fraction", 0) * total), schedule.get("final_lr_fraction", 0)
    rates = []
    for step in range(total):
        u = (step - warmup) / max(1, total - warmup)
        shape = {"constant": 1.0, "linear": 1 - u, "cosine": (1 + math.cos(math.pi * u)) / 2}[schedule.name]
        factor = 1.0 if schedule.name == "constant" else floor + (1 - floor) * shape
        rates.append(base * ((step + 1) / warmup if step < warmup else factor))
    return rates


SCHEDULES = [
    Part("constant"),
    Part("constant", {"warmup_fraction": 0.2}),
    *(
        Part(name, {"warmup_fraction": warmup, "final_lr_fraction": floor})
        for name in ("linear", "cosine")
        for warmup in (0.0, 0.1, 0.3)
        for floor in (0.0, 0.1)
    ),
]


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_rate_of_every_step_is_that_of_torchs_own_schedulers(schedule, accumulate):
    _, watch, _ = fit(recipe_with(schedule, accumulate_grad_batches=accumulate))
    assert watch.lrs == pytest.approx(torch_rates(schedule, 20), abs=1e-9, rel=0)
    assert watch.lrs == pytest.approx(formula(schedule, 20), abs=1e-12, rel=0)


@pytest.mark.parametrize("batches", [8, 9, 10, 11])
def test_an_incomplete_accumulation_at_the_end_of_an_epoch_is_a_step(batches):
    schedule = Part("cosine", {"warmup_fraction": 0.2})
    data = (m.train_loader(4 * batches), m.val_loader())
    _, watch, trainer = fit(recipe_with(schedule, accumulate_grad_batches=4), data=data, max_steps=-1, max_epochs=5)
    total = 5 * math.ceil(batches / 4)
    assert trainer.global_step == total
    assert watch.lrs == pytest.approx(formula(schedule, total), abs=1e-9, rel=0)


def test_the_ratios_of_the_groups_rates_survive():
    schedule = Part("cosine", {"warmup_fraction": 0.1, "final_lr_fraction": 0.1})

    class TwoRates(m.Net):
        def configure_optimizers(self):
            first, last = self.net[0].parameters(), self.net[2].parameters()
            optimizer = torch.optim.AdamW([{"params": first, "lr": 1e-4}, {"params": last, "lr": 1e-2}])
            scheduler = build_scheduler(schedule, optimizer, count_steps(self.trainer))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    watch = m.Watch()
    m.quiet_trainer(watch, max_steps=20).fit(TwoRates(), *m.loaders())
    assert [low for low, _ in watch.rates] == pytest.approx(formula(schedule, 20, 1e-4), abs=1e-9, rel=0)
    assert [high for _, high in watch.rates] == pytest.approx(formula(schedule, 20, 1e-2), abs=1e-9, rel=0)


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("stop", [8, 11])
@pytest.mark.parametrize("total", [20, 40])
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_resumed_run_follows_the_formula_of_the_new_length(tmp_path, total, stop, accumulate):
    schedule = Part("cosine", {"warmup_fraction": 0.1, "final_lr_fraction": 0.1})
    recipe = recipe_with(schedule, accumulate_grad_batches=accumulate)
    keeper = pl.callbacks.ModelCheckpoint(tmp_path, "at", every_n_train_steps=stop, save_top_k=1, monitor=None)
    fit(recipe, callbacks=[keeper, _StopAt(stop)], enable_checkpointing=True)
    _, watch, trainer = fit(recipe, ckpt_path=tmp_path / "at.ckpt", max_steps=total)
    assert trainer.global_step == total
    assert watch.lrs == pytest.approx(formula(schedule, total)[stop:], abs=1e-9, rel=0)


class _StopAt(m.AnyCallback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.step


def test_a_resumed_run_follows_its_own_recipe_not_that_of_the_checkpoint(tmp_path):
    _, _, trainer = fit(recipe_with("cosine"), max_steps=8)
    trainer.save_checkpoint(tmp_path / "at.ckpt")
    other = Recipe(Part("adamw", {"lr": 0.5, "betas": (0.8, 0.9), "weight_decay": 0.3}), Part("linear"))
    _, watch, trainer = fit(other, ckpt_path=tmp_path / "at.ckpt")
    assert watch.lrs == pytest.approx(formula(Part("linear"), 20, 0.5)[8:], abs=1e-9, rel=0)
    groups = trainer.optimizers[0].param_groups
    assert [(group["betas"], group["weight_decay"]) for group in groups] == [((0.8, 0.9), 0.3), ((0.8, 0.9), 0.0)]


def test_a_gradient_accumulation_scheduler_continues_to_accumulate():
    scheduler = pl.callbacks.GradientAccumulationScheduler({0: 1, 1: 4})
    attacher, watch, _ = fit(recipe_with("linear", accumulate_grad_batches=2), callbacks=[scheduler])
    assert watch.lrs == pytest.approx(formula(Part("linear"), 20), abs=1e-9, rel=0)
    assert attacher.notes == [
        "the Trainer's GradientAccumulationScheduler stays; the recipe's accumulate_grad_batches=2 is left out"
    ]


@pytest.mark.parametrize("settings", [{"max_steps": 12}, {"max_steps": -1, "max_epochs": 3, "limit_train_batches": 4}])
def test_a_stream_is_trained_where_its_length_is_given(settings):
    _, watch, _ = fit(recipe_with("linear"), data=(m.stream_loader(), m.val_loader()), **settings)
    assert watch.lrs == pytest.approx(formula(Part("linear"), 12), abs=1e-9, rel=0)
