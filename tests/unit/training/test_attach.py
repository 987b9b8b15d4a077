import copy
import math
from types import MethodType

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch

from opttune import Recipe
from opttune.errors import ModelError, RecipeError
from opttune.recipe import Part
from opttune.training.attach import RecipeAttacher
from opttune.training.refusals import refuse_untunable
from tests.support import models as m
from tests.support.fits import LR, fit, recipe_with


@pytest.mark.parametrize(("namespace", "net"), [(pl, m.Net), (pytorch_lightning, m.OtherNet)])
def test_after_the_fit_the_modules_own_hook_is_back(namespace, net):
    model = net()
    _, watch, trainer = fit(recipe_with(), model, namespace=namespace)
    assert (type(trainer.optimizers[0]).__name__, watch.lrs) == ("AdamW", [LR] * 20)
    assert "configure_optimizers" not in vars(model)
    assert type(model.configure_optimizers()) is torch.optim.SGD


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()], ids=repr)
def test_after_an_error_in_the_training_all_is_back(error, monkeypatch):
    monkeypatch.setattr(m.FailingNet, "error", error)
    attacher, model = RecipeAttacher(recipe_with(gradient_clip_norm=1.0, accumulate_grad_batches=2)), m.FailingNet()
    trainer = m.quiet_trainer(attacher, max_steps=20)
    with pytest.raises((RuntimeError, SystemExit)):
        trainer.fit(model, *m.loaders())
    assert "configure_optimizers" not in vars(model)
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches) == (None, 1)


def test_after_an_error_in_another_callbacks_setup_all_is_back():
    class Failing(m.AnyCallback):
        def setup(self, trainer, pl_module, stage):
            raise RuntimeError("not set up")

    model = m.Net()
    with pytest.raises(RuntimeError, match="not set up"):
        fit(recipe_with(gradient_clip_norm=1.0), model, callbacks=[Failing()])
    assert "configure_optimizers" not in vars(model)


def test_a_hook_that_was_bound_on_the_instance_comes_back():
    model = m.Net()
    bound = MethodType(lambda module: torch.optim.Adam(module.parameters(), lr=0.3), model)
    model.configure_optimizers = bound  # as the LightningCLI does
    attacher, _, _ = fit(recipe_with(), model)
    assert attacher.replaced == "Adam(lr=0.3)"
    assert vars(model)["configure_optimizers"] is bound


def test_the_trainers_clipping_and_accumulation_come_back():
    seen = []

    class Look(m.AnyCallback):
        def on_train_start(self, trainer, pl_module):
            seen.append((trainer.gradient_clip_val, trainer.accumulate_grad_batches))

    attacher, _, trainer = fit(recipe_with(gradient_clip_norm=0.5, accumulate_grad_batches=4), callbacks=[Look()])
    assert seen == [(0.5, 4)]
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches, attacher.notes) == (None, 1, [])


@pytest.mark.parametrize(("clip", "largest"), [(0.01, 0.01), (None, math.inf)])
def test_gradients_are_clipped_to_the_recipes_norm(clip, largest):
    norms = []

    class Net(m.Net):
        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            # the gradients stay until the next step's closure
            norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters()])))

    fit(recipe_with(gradient_clip_norm=clip), Net())
    assert len(norms) == 20
    assert 0.009 < min(norms) <= max(norms) <= largest
    assert clip is not None or max(norms) > 0.1


def test_what_the_trainer_sets_itself_stays_and_is_noted():
    settings = {"gradient_clip_val": 2.0, "accumulate_grad_batches": 2}
    attacher, _, trainer = fit(recipe_with(gradient_clip_norm=0.5, accumulate_grad_batches=4), **settings)
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches) == (2.0, 2)
    assert (attacher.recipe.gradient_clip_norm, attacher.recipe.accumulate_grad_batches) == (2.0, 2)
    assert attacher.notes == [
        "the Trainer's accumulate_grad_batches=2 stays; the recipe's accumulate_grad_batches=4 is left out",
        "the Trainer's gradient_clip_val=2.0 stays; the recipe's gradient_clip_norm=0.5 is left out",
    ]


def test_a_trainers_clipping_at_zero_stays_and_clips_nothing():
    attacher, _, trainer = fit(recipe_with(gradient_clip_norm=0.5), gradient_clip_val=0)
    assert (attacher.recipe.gradient_clip_norm, trainer.gradient_clip_val) == (None, 0)
    assert attacher.notes == [
        "the Trainer's gradient_clip_val=0 stays; the recipe's gradient_clip_norm=0.5 is left out"
    ]


@pytest.mark.parametrize("clip", [0.5, None])
def test_a_trainer_that_clips_by_value_continues_to_do_so(clip):
    settings = {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}
    attacher, _, trainer = fit(recipe_with(gradient_clip_norm=clip), **settings)
    assert (attacher.recipe.gradient_clip_norm, trainer.gradient_clip_val) == (None, 1.0)
    note = "the Trainer clips by value; the recipe's gradient_clip_norm=0.5 is left out"
    assert attacher.notes == ([note] if clip else [])


def test_each_fit_starts_from_the_recipe_as_it_was_given():
    attacher = RecipeAttacher(recipe_with(gradient_clip_norm=0.5))
    for clip, used, notes in ((2.0, 2.0, 1), (None, 0.5, 0), (3.0, 3.0, 1)):
        m.quiet_trainer(attacher, max_steps=2, gradient_clip_val=clip).fit(m.Net(), *m.loaders())
        assert (attacher.recipe.gradient_clip_norm, len(attacher.notes)) == (used, notes)


def test_a_copy_made_during_the_fit_works():
    class Copying(m.AnyCallback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            self.copy = copy.deepcopy(pl_module)

    copying = Copying()
    _, watch, _ = fit(recipe_with(), callbacks=[copying])
    assert len(watch.lrs) == 20
    assert copying.copy.net(torch.zeros(1, 4)).shape == (1, 2)


def test_what_the_modules_own_optimizer_leaves_alone_stays_untrained():
    for model in (m.HeadNet(), m.FrozenNet()):
        before = copy.deepcopy(model.state_dict())
        fit(recipe_with(), model)
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed == {"net.2.weight", "net.2.bias"}


def test_layers_made_in_configure_model_are_trained():
    model = m.LateNet()
    _, _, trainer = fit(recipe_with(), model)
    assert sum(len(group["params"]) for group in trainer.optimizers[0].param_groups) == len(list(model.parameters()))


def test_a_module_without_its_own_optimizer_is_bound_before_the_fit():
    attacher, model = RecipeAttacher(recipe_with()), m.BareNet()
    attacher.bind(model)
    m.quiet_trainer(attacher, max_steps=3).fit(model, *m.loaders())
    assert attacher.replaced == "no optimizer"
    assert "configure_optimizers" not in vars(model)


def test_other_stages_are_left_alone():
    attacher, model = RecipeAttacher(recipe_with(gradient_clip_norm=1.0)), m.Net()
    m.quiet_trainer(attacher).validate(model, m.val_loader(), verbose=False)
    assert attacher.own is None


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (
            m.GanNet,
            r"GanNet trains with 2 optimizers .*Adam.*SGD.* under automatic",
        ),
        (lambda: m.Net().requires_grad_(False), "the model has no trainable parameter"),
    ],
)
def test_a_model_that_cannot_be_tuned_is_refused(model, problem):
    made = model()
    with pytest.raises(ModelError, match=problem):
        fit(recipe_with(), made)
    assert "configure_optimizers" not in vars(made)


def test_an_optimizer_that_the_strategy_owns_is_refused():
    class DeepSpeedStrategy:
        """Lightning's own cannot be made without the package deepspeed."""

    class Trainer:
        strategy = DeepSpeedStrategy()

    with pytest.raises(ModelError, match="Net trains under DeepSpeed, which owns the optimizer"):
        refuse_untunable(Trainer(), m.Net())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_steps": -1, "max_epochs": -1}, "the training has no end: .* Give max_steps."),
        ({"max_steps": -1, "max_epochs": 2, "stream": True}, r"no length \(an IterableDataset\).* Give max_steps."),
        ({"max_steps": -1, "max_epochs": 2, "varies": True}, "miscounts .* Give max_steps, and no max_epochs."),
        ({"max_steps": 9, "max_epochs": 2, "varies": True}, "miscounts .* Give max_steps, and no max_epochs."),
        ({"max_steps": -1, "max_epochs": 2, "limit_train_batches": 0}, "there is nothing to train"),
    ],
)
def test_a_length_that_cannot_be_known_is_refused(settings, problem):
    settings = dict(settings)
    data = (m.stream_loader() if settings.pop("stream", False) else m.train_loader(), m.val_loader())
    varies = settings.pop("varies", False)
    callbacks = [pl.callbacks.GradientAccumulationScheduler({0: 1, 1: 4})] if varies else []
    with pytest.raises(ModelError, match=problem):
        fit(recipe_with(), data=data, callbacks=callbacks, **settings)


def test_another_precision_than_the_trainers_is_refused():
    with pytest.raises(RecipeError, match=r"needs Trainer\(precision='bf16-mixed'\), got precision='32-true'"):
        fit(recipe_with(precision="bf16-mixed"))


@pytest.mark.parametrize("precision", ["32", "32-true"])
def test_the_trainers_precision_is_known_by_each_of_its_names(precision):
    _, watch, _ = fit(recipe_with(precision=precision), max_steps=2)
    assert len(watch.lrs) == 2


def test_a_recipe_that_cannot_be_used_is_refused_at_once():
    with pytest.raises(RecipeError, match="adamw"):
        RecipeAttacher(Recipe(Part("adamw", {"momentum": 0.9})))
