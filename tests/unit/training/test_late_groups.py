"""Parameter groups that a hook adds while a training runs."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning
from torch import nn

from opttune import Recipe, RecipeCallback
from opttune.recipe import Part
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support import pauses as p
from tests.support.fits import fit
from tests.unit.training.test_rates import formula

LINEAR = Part("linear", {"warmup_fraction": 0.25})
TOTAL = 40


class Rates(m.AnyCallback):
    """Notes the rate of each parameter at each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_start(self, trainer, pl_module):
        names = {id(parameter): name for name, parameter in pl_module.named_parameters()}

        def note(optimizer, *_):
            groups = optimizer.param_groups
            self.seen.append({names[id(p)]: group["lr"] for group in groups for p in group["params"]})

        trainer.optimizers[0].register_step_post_hook(note)

    def of(self, name):
        return [rates.get(name) for rates in self.seen]


class Backbone(m.Net):
    def __init__(self):
        super().__init__()
        self.net = None
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))

    def loss(self, batch):
        return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=1e-3)


class InAHook(Backbone):
    """Adds the backbone itself, in the second epoch, at half the rate."""

    def __init__(self):
        super().__init__()
        self.backbone.requires_grad_(False)

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.backbone.requires_grad_(True)
            optimizer = self.trainer.optimizers[0]
            rate = optimizer.param_groups[0]["lr"] / 2
            optimizer.add_param_group({"params": self.backbone.parameters(), "lr": rate})


class InTwoSteps(BaseFinetuning):
    """Thaws one layer after the other, at a tenth of the rate."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch in (1, 3):
            layer = pl_module.backbone[3 if epoch == 1 else 0]
            self.unfreeze_and_add_param_group(layer, optimizer)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "schedule_free_adamw", "adam_mini", "soap", "lamb"])
def test_a_group_that_a_hook_adds_follows_the_curve_at_its_own_ratio(optimizer):
    rates = Rates()
    recipe = Recipe(Part(optimizer, {"lr": 0.01}), LINEAR)
    fit(recipe, InAHook(), callbacks=[rates], max_steps=TOTAL)
    curve = formula(LINEAR, TOTAL)
    rest = 0.2 if optimizer == "muon" else 1.0
    assert rates.of("head.0.weight") == pytest.approx(curve)
    assert rates.of("head.0.bias") == pytest.approx([rest * rate for rate in curve])
    for name, share in (("backbone.3.weight", 1.0), ("backbone.3.bias", rest)):
        assert rates.of(name)[:8] == [None] * 8
        # Muon's first group holds the head's matrices
        assert rates.of(name)[8:] == pytest.approx([share * rate / 2 for rate in curve[8:]])


def test_a_group_without_a_rate_has_the_recipes():
    class Plain(InAHook):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                self.backbone.requires_grad_(True)
                self.trainer.optimizers[0].add_param_group({"params": list(self.backbone.parameters())})

    rates = Rates()
    _, _, trainer = fit(Recipe(Part("adamw", {"lr": 0.01}), LINEAR), Plain(), callbacks=[rates], max_steps=TOTAL)
    assert rates.of("backbone.0.weight")[8:] == pytest.approx(formula(LINEAR, TOTAL)[8:])
    assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.01, 0.0, 0.01, 0.0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_backbone_finetuning_brings_the_backbone_to_the_rate_of_the_head(optimizer):
    rates = Rates()
    finetuning = BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_ratio_lr=0.1)
    recipe = Recipe(Part(optimizer, {"lr": 0.01}), Part("constant"))
    fit(recipe, Backbone(), callbacks=[finetuning, rates], max_steps=64)
    weights, biases = rates.of("backbone.0.weight")[8:], rates.of("backbone.0.bias")[8:]
    # twice as much each epoch, until it is the head's
    shares = [share for share in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0) for _ in range(8)]
    assert weights == pytest.approx([0.01 * share for share in shares])
    rest = 0.2 if optimizer == "muon" else 1.0
    assert biases == pytest.approx([rest * 0.01 * share for share in shares])


def train(model, optimizer, callbacks, folder, rungs, schedule=LINEAR):
    """Return the outcome of a training in parts, and the weights at its end."""
    recipe = None if optimizer is None else Recipe(Part(optimizer, {"lr": 0.01}), schedule)
    settings = {"max_steps": TOTAL, "accelerator": "cpu", "callbacks": callbacks}
    before = None
    for number, until in enumerate((*rungs, None)):
        after = folder / f"{len(rungs)}-{number}.ckpt"
        attempt = Attempt(recipe, "val_loss", 3, settings, checkpoint=after, until_step=until, resume_from=before)
        outcome, before = run_attempt(attempt, Workload(model, m.loaders), NullListener()), after
    return outcome, torch.load(after, weights_only=False)["state_dict"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*ReduceLROnPlateau")
@pytest.mark.parametrize("rungs", [(4, 12), (16,), (8, 27)])
@pytest.mark.parametrize(
    ("model", "callbacks", "optimizer"),
    [
        (InAHook, (), "adamw"),
        (InAHook, (), "muon"),
        (Backbone, (InTwoSteps(),), "muon"),
        (Backbone, (BackboneFinetuning(1),), "adamw"),
        (InAHook, (), None),
    ],
)
def test_added_groups_go_through_pauses(tmp_path, model, callbacks, optimizer, rungs):
    whole, weights = train(model, optimizer, list(callbacks), tmp_path, ())
    parts, resumed = train(model, optimizer, list(callbacks), tmp_path, rungs)
    assert (parts.message, parts.value, parts.steps) == ("", whole.value, TOTAL)
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_added_groups_under_plateau(tmp_path):
    schedule = Part("plateau", {"patience_checks": 0, "improvement_fraction": 0.99, "final_lr_fraction": 0.05})
    outcome, _ = train(InAHook, "adamw", [], tmp_path, (12,), schedule)
    assert (outcome.message, outcome.steps) == ("", TOTAL)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")
def test_a_resumed_fit_scales_added_groups_to_its_own_recipe(tmp_path):
    first = m.quiet_trainer(RecipeCallback(Recipe(Part("adamw", {"lr": 0.01}), LINEAR)), max_steps=12)
    first.fit(InAHook(), *m.loaders())
    first.save_checkpoint(tmp_path / "at.ckpt")
    rates, other = Rates(), Recipe(Part("adamw", {"lr": 0.04}), LINEAR)
    trainer = m.quiet_trainer(RecipeCallback(other), rates, max_steps=TOTAL)
    trainer.fit(InAHook(), *m.loaders(), ckpt_path=tmp_path / "at.ckpt")
    curve = formula(LINEAR, TOTAL, 0.04)[12:]
    assert rates.of("head.0.weight") == pytest.approx(curve)
    assert rates.of("backbone.0.weight") == pytest.approx([rate / 2 for rate in curve])


def test_parameters_that_are_not_the_modules_cannot_be_added():
    class Foreign(pl.Callback):
        def on_train_epoch_start(self, trainer, *_):
            trainer.optimizers[0].add_param_group({"params": nn.Linear(2, 2).parameters()})

    with pytest.raises(ValueError, match="parameters are not all the module's own"):
        fit(Recipe(Part("adamw", {"lr": 0.01})), callbacks=[Foreign()])


class Unfreezes(m.Net):
    """Adds a group by the wrapper that Lightning gives."""

    def __init__(self):
        super().__init__()
        self.net[0].requires_grad_(False)

    def configure_optimizers(self):
        return torch.optim.AdamW([one for one in self.parameters() if one.requires_grad], lr=1e-2)

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.net[0].requires_grad_(True)
            self.optimizers().add_param_group({"params": list(self.net[0].parameters()), "lr": 1e-3})


@pytest.mark.parametrize("rungs", [(), (12,)], ids=str)
def test_a_group_added_by_lightnings_wrapper_follows_the_curve(tmp_path, rungs):
    recipe = Recipe(Part("adamw", {"lr": 1e-2}), Part("constant"))
    story = p.train(tmp_path / "end.ckpt", rungs, model=Unfreezes, recipe=recipe)
    saved = story.saved["optimizer_states"][0]["param_groups"]
    assert str(story.end.reason) == "completed"
    assert {round(group["lr"], 9) for group in saved} == {1e-2, 1e-3}
