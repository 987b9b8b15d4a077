"""Modules that bring code for a schedule of theirs: it is replaced with the schedule, or refused."""

import lightning.pytorch as pl
import pytest
import torch

from opttune import Recipe, RecipeCallback
from opttune.errors import InputError, ModelError
from opttune.recipe import Part
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.inspection import inspect_model
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support.fits import LR, fit, recipe_with
from tests.unit.training.test_rates import formula

RECIPE = recipe_with("linear")


class ByEpoch(m.Net):
    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step(epoch=self.current_epoch)


class ByUpdate(m.Net):
    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step_update(num_updates=self.global_step)


class ByHand(m.Net):
    """Steps the scheduler in another hook."""

    def on_train_batch_end(self, *_):
        self.lr_schedulers().step_update(self.global_step)
        assert self.lr_schedulers().get_last_lr()[0] >= 0

    def on_train_epoch_end(self):
        self.lr_schedulers().step(self.current_epoch)


@pytest.mark.parametrize("model", [ByEpoch, ByUpdate, ByHand])
def test_hooks_of_the_replaced_scheduler_are_replaced_for_the_fit(model):
    made = model()
    _, watch, _ = fit(RECIPE, made)
    assert watch.lrs == pytest.approx(formula(RECIPE.schedule, 20), abs=1e-9, rel=0)
    assert not {"lr_scheduler_step", "lr_schedulers", "configure_optimizers"} & set(vars(made))


def test_a_note_says_so():
    attempt = Attempt(RECIPE, "val_loss", 3, {"max_steps": 20, "accelerator": "cpu"})
    found = inspect_model(attempt, Workload(ByEpoch, m.loaders), steps=2)
    assert found.notes == ("ByEpoch.lr_scheduler_step belongs to the module's own scheduler and is replaced with it.",)
    callback = RecipeCallback(RECIPE)
    with pytest.warns(UserWarning, match=r"ByEpoch\.lr_scheduler_step belongs"):
        m.quiet_trainer(callback, max_steps=2).fit(ByEpoch(), *m.loaders())


class InStep(m.Net):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        for group in optimizer.param_groups:
            group["lr"] = 1e-5
        optimizer.step(closure=optimizer_closure)


class InTrainingStep(m.Net):
    def training_step(self, batch, batch_idx):
        self.optimizers().param_groups[-1].update(lr=1e-5)
        return super().training_step(batch, batch_idx)


class LastMoment(m.Net):
    def on_before_optimizer_step(self, optimizer):
        optimizer.param_groups[0]["lr"] *= 0.5


class Callback(pl.Callback):
    def on_train_batch_start(self, trainer, *_):
        trainer.optimizers[0].param_groups[0]["lr"] = 1e-5


class AtTheEpochsEnd(pl.Callback):
    def on_train_epoch_end(self, trainer, *_):
        trainer.optimizers[0].param_groups[0]["lr"] *= 0.5


class OwnTorchScheduler(pl.Callback):
    def on_train_start(self, trainer, *_):
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(trainer.optimizers[0], 0.5)

    def on_train_batch_end(self, *_):
        self.scheduler.step()


WRITERS = {
    "optimizer_step": (InStep, ()),
    "training_step": (InTrainingStep, ()),
    "on_before_optimizer_step": (LastMoment, ()),
    "on_train_batch_start": (m.Net, (Callback(),)),
    "on_train_epoch_end": (m.Net, (AtTheEpochsEnd(),)),
    "on_train_batch_end": (m.Net, (OwnTorchScheduler(),)),
}


@pytest.mark.parametrize("hook", WRITERS)
def test_code_that_sets_the_rate_itself_is_refused_before_a_search(hook):
    model, callbacks = WRITERS[hook]
    attempt = Attempt(RECIPE, "val_loss", 3, {"max_steps": 20, "accelerator": "cpu", "callbacks": list(callbacks)})
    with pytest.raises(ModelError, match=rf"test_module_schedules\.py:\d+, in {hook} sets it"):
        inspect_model(attempt, Workload(model, m.loaders), steps=3)


def test_a_training_with_a_recipe_warns_once_of_it():
    with pytest.warns(UserWarning, match=r"learning rate of step 1 is 1e-05, and the recipe's is 0.01") as warned:
        m.quiet_trainer(RecipeCallback(RECIPE), max_steps=5).fit(InStep(), *m.loaders())
    assert sum("learning rate" in str(warning.message) for warning in warned) == 1


def test_an_optimizer_that_sets_its_rates_itself_is_left_alone(monkeypatch):
    class Restless(torch.optim.AdamW):
        def step(self, closure=None):
            self.param_groups[0]["lr"] *= 0.9
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Restless)
    attempt = Attempt(RECIPE, "val_loss", 3, {"max_steps": 20, "accelerator": "cpu"})
    assert inspect_model(attempt, Workload(m.Net, m.loaders), steps=3).total_steps == 20


@pytest.mark.filterwarnings("ignore:SWA is currently only supported")
def test_a_scheduler_that_a_callback_puts_in_place_keeps_the_rate():
    averaging = pl.callbacks.StochasticWeightAveraging(1e-3, swa_epoch_start=1)
    attempt = Attempt(RECIPE, "val_loss", 3, {"max_epochs": 3, "accelerator": "cpu", "callbacks": [averaging]})
    assert inspect_model(attempt, Workload(m.Net, m.loaders), steps=3).total_steps == 24


PLATEAU = Recipe(
    Part("adamw", {"lr": LR}),
    Part("plateau", {"patience_checks": 0, "decay_factor": 0.5, "improvement_fraction": 0.99}),
)


class NeverBetter(m.Net):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", 1.0)


@pytest.mark.parametrize(
    ("settings", "drops"),
    [
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, [10, 15]),
        ({"val_check_interval": 0.5}, [8, 12, 16]),
        ({"check_val_every_n_epoch": 1}, [16]),
    ],
)
def test_plateau_is_stepped_after_each_validation(settings, drops):
    _, watch, _ = fit(PLATEAU, NeverBetter(), **settings)
    seen = [step for step in range(1, 20) if watch.lrs[step] < watch.lrs[step - 1]]
    assert seen == drops


class Trained(m.Net):
    def training_step(self, batch, batch_idx):
        self.log("seen", 1.0, on_step=False, on_epoch=True)
        return self.loss(batch)


def warmed(fraction):
    return Recipe(PLATEAU.optimizer, Part("plateau", {**dict(PLATEAU.schedule.items()), "warmup_fraction": fraction}))


STEPWISE = {"val_check_interval": 5, "check_val_every_n_epoch": None}


@pytest.mark.parametrize(
    ("settings", "drops"),
    [(STEPWISE, [15]), ({"val_check_interval": 0.5}, [12, 16]), ({"accumulate_grad_batches": 2}, [12, 16])],
)
def test_plateau_after_a_warmup_counts_the_validations_that_follow_it(settings, drops):
    _, watch, _ = fit(warmed(0.35), NeverBetter(), **settings)
    assert watch.lrs[:7] == pytest.approx([LR * (step + 1) / 7 for step in range(7)], abs=1e-12)
    # the first one is the value to beat
    assert [step for step in range(7, 20) if watch.lrs[step] < watch.lrs[step - 1]] == drops
    assert watch.lrs[-1] == pytest.approx(LR / 2 ** len(drops))


@pytest.mark.parametrize("model", [ByEpoch, ByUpdate, ByHand])
def test_a_modules_own_scheduler_hooks_leave_a_warmed_plateau_alone(model):
    class Module(model, NeverBetter):
        pass

    _, watch, _ = fit(warmed(0.35), Module(), **STEPWISE)
    assert watch.lrs[:7] == pytest.approx([LR * (step + 1) / 7 for step in range(7)], abs=1e-12)
    assert [step for step in range(7, 20) if watch.lrs[step] < watch.lrs[step - 1]] == [15]


def test_code_that_sets_the_rate_is_found_under_a_warmed_plateau_too():
    attempt = Attempt(warmed(0.5), "val_loss", 3, {"max_steps": 20, "accelerator": "cpu"})
    with pytest.raises(ModelError, match="in optimizer_step sets it"):
        inspect_model(attempt, Workload(InStep, m.loaders), steps=3)
    assert inspect_model(attempt, Workload(m.Net, m.loaders), steps=3).total_steps == 20


def test_a_warmed_plateau_may_follow_a_metric_of_the_training_epoch():
    watch = m.Watch()
    m.quiet_trainer(RecipeCallback(warmed(0.375), monitor="seen"), watch, max_epochs=4).fit(Trained(), *m.loaders())
    assert [step for step in range(1, 32) if watch.lrs[step] < watch.lrs[step - 1]] == [24]


def test_plateau_may_follow_a_metric_of_the_training_epoch():
    watch = m.Watch()
    callback = RecipeCallback(PLATEAU, monitor="seen")
    m.quiet_trainer(callback, watch, max_epochs=4).fit(Trained(), *m.loaders())
    assert [step for step in range(1, 32) if watch.lrs[step] < watch.lrs[step - 1]] == [16, 24]


@pytest.mark.parametrize("fraction", [0.0, 0.35])
@pytest.mark.parametrize("rungs", [(7,), (5, 12), (3, 6)])
def test_plateau_goes_through_pauses(tmp_path, rungs, fraction):
    settings = {"max_steps": 20, "accelerator": "cpu", "val_check_interval": 3, "check_val_every_n_epoch": None}
    recipe = warmed(fraction)
    whole = run_attempt(Attempt(recipe, "val_loss", 3, settings), Workload(m.Net, m.loaders), NullListener())
    before = None
    for number, until in enumerate((*rungs, None)):
        after = tmp_path / f"{number}.ckpt"
        attempt = Attempt(recipe, "val_loss", 3, settings, checkpoint=after, until_step=until, resume_from=before)
        outcome, before = run_attempt(attempt, Workload(m.Net, m.loaders), NullListener()), after
    assert (outcome.message, outcome.value, outcome.steps) == ("", whole.value, 20)


def test_a_second_fit_of_a_trainer_has_one_curve_over_what_is_still_to_come():
    watch, model = m.Watch(), m.Net()
    trainer = m.quiet_trainer(RecipeCallback(RECIPE), watch, max_epochs=2)
    trainer.fit(model, *m.loaders())
    trainer.fit_loop.max_epochs = 5
    trainer.fit(model, *m.loaders())
    assert watch.lrs == pytest.approx([*formula(RECIPE.schedule, 16), *formula(RECIPE.schedule, 24)], abs=1e-9)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")
def test_a_second_fits_curve_goes_through_its_checkpoint(tmp_path):
    trainer = m.quiet_trainer(RecipeCallback(RECIPE), max_epochs=1)
    model = m.Net()
    trainer.fit(model, *m.loaders())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, *m.loaders())
    trainer.save_checkpoint(tmp_path / "at.ckpt")
    watch = m.Watch()
    m.quiet_trainer(RecipeCallback(RECIPE), watch, max_epochs=4).fit(
        m.Net(), *m.loaders(), ckpt_path=tmp_path / "at.ckpt"
    )
    assert watch.lrs == pytest.approx(formula(RECIPE.schedule, 24)[8:], abs=1e-9)


class OwnAdamW(m.Net):
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class OwnGroups(m.Net):
    def configure_optimizers(self):
        weights, others = (self.net[0].weight, self.net[2].weight), (self.net[0].bias, self.net[2].bias)
        return torch.optim.AdamW([{"params": weights}, {"params": others}], lr=1e-3)


@pytest.mark.parametrize(
    ("model", "recipe", "said"),
    [
        (m.Net, None, r"own optimizer \(SGD\(lr=0.0001\)\) saved it, and the recipe trains with adamw"),
        (OwnAdamW, None, r"own optimizer \(AdamW\(lr=0.001\)\) saved it"),
        (OwnGroups, None, r"own optimizer \(AdamW\(lr=0.001\)\) saved it"),
        (m.Net, Recipe(Part("lion", {"lr": 1e-3})), "saved by a training with lion, and the recipe trains with adamw"),
        (m.Net, Recipe(Part("adamw", {"lr": 1e-3}), groups=Recipe.from_dict(
            {"optimizer": "adamw", "groups": {"no_decay_norm_bias": False}}).groups), "split differently"),
    ],
)  # fmt: skip
def test_the_checkpoint_of_another_optimizer_is_refused_in_one_sentence(tmp_path, model, recipe, said):
    callbacks = [] if recipe is None else [RecipeCallback(recipe)]
    trainer = m.quiet_trainer(*callbacks, max_steps=4)
    trainer.fit(model(), *m.loaders())
    trainer.save_checkpoint(tmp_path / "its.ckpt")
    with pytest.raises(InputError, match=said) as refused:
        m.quiet_trainer(RecipeCallback(RECIPE), max_steps=8).fit(model(), *m.loaders(), ckpt_path=tmp_path / "its.ckpt")
    assert 'model.load_state_dict(torch.load(path)["state_dict"])' in str(refused.value)


def test_a_checkpoint_of_weights_alone_is_refused_in_one_sentence(tmp_path):
    trainer = m.quiet_trainer(max_steps=4)
    trainer.fit(m.Net(), *m.loaders())
    trainer.save_checkpoint(tmp_path / "its.ckpt", weights_only=True)
    with pytest.raises(InputError, match="it has only weights"):
        m.quiet_trainer(RecipeCallback(RECIPE), max_steps=8).fit(m.Net(), *m.loaders(), ckpt_path=tmp_path / "its.ckpt")


class Thawing(m.Net):
    """Frozen at first; its own optimizer holds all."""

    def __init__(self):
        super().__init__()
        self.net[0].requires_grad_(False)

    def on_train_epoch_start(self):
        self.net[0].requires_grad_(self.current_epoch >= 1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adam_mini", "soap", "schedule_free_adamw"])
def test_what_the_modules_own_optimizer_holds_is_held_frozen_or_not(optimizer):
    model = Thawing()
    start = model.net[0].weight.detach().clone()
    seen = []

    class Look(m.AnyCallback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append(torch.equal(pl_module.net[0].weight, start))

    fit(Recipe(Part(optimizer, {"lr": 1e-2})), model, callbacks=[Look()])
    assert seen == [True] * 8 + [False] * 12 or (optimizer == "soap" and seen == [True] * 9 + [False] * 11)
