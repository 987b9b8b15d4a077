from types import SimpleNamespace

import lightning
import pytest
import torch

from opttune.errors import ModelError
from opttune.recipe import Part, Recipe
from opttune.training.modes import quirk_callbacks
from opttune.training.recipe_callback import RecipeCallback
from tests.support import models as m

SCHEDULE_FREE = Recipe(Part("schedule_free_sgd", {"lr": 0.5}))
SOPHIA = Recipe(Part("sophia", {"lr": 1e-3, "update_period": 3}))


def fit(recipe, net=None, steps=12, **settings):
    lightning.seed_everything(0, verbose=False)
    net = net or m.Net()
    trainer = m.quiet_trainer(RecipeCallback(recipe), max_steps=steps, **settings)
    trainer.fit(net, *m.loaders())
    return net, trainer


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_an_optimizer_without_quirks_needs_nothing():
    assert quirk_callbacks(Recipe(Part("adamw"))) == ()


def test_schedule_free_validates_the_averaged_weights_and_trains_at_the_others():
    seen = []

    class Watching(m.Net):
        def training_step(self, batch, batch_idx):
            seen.append(("train", self.trainer.optimizers[0].param_groups[0]["train_mode"]))
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            seen.append(("validate", self.trainer.optimizers[0].param_groups[0]["train_mode"]))
            return super().validation_step(batch, batch_idx)

    fit(SCHEDULE_FREE, Watching())
    assert {mode for what, mode in seen if what == "train"} == {True}
    assert {mode for what, mode in seen if what == "validate"} == {False}


def test_schedule_free_leaves_the_weights_that_were_validated():
    net, trainer = fit(SCHEDULE_FREE)
    assert trainer.optimizers[0].param_groups[0]["train_mode"] is False
    again = trainer.validate(net, m.loaders()[1], verbose=False)[0]["val_loss"]
    assert again == pytest.approx(float(trainer.callback_metrics["val_loss"]), rel=1e-6)


def test_a_checkpoint_of_schedule_free_holds_the_averaged_weights_and_the_training_continues_unchanged(tmp_path):
    class SavingAt6(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            if trainer.global_step == 6:
                self.before = weights(pl_module)
                trainer.save_checkpoint(tmp_path / "six.ckpt")
                self.after = weights(pl_module)

    saving = SavingAt6()
    lightning.seed_everything(0, verbose=False)
    net = m.Net()
    m.quiet_trainer(RecipeCallback(SCHEDULE_FREE), saving, max_steps=12).fit(net, *m.loaders())
    assert torch.equal(saving.before, saving.after)

    saved = torch.load(tmp_path / "six.ckpt", weights_only=True)
    assert saved["optimizer_states"][0]["param_groups"][0]["train_mode"] is False
    averaged = m.Net()
    averaged.load_state_dict(saved["state_dict"])
    assert not torch.equal(weights(averaged), saving.before)


def test_sophia_keeps_the_graph_only_where_it_is_due_and_gives_backward_back():
    graphs = []

    class Watching(m.Net):
        def on_before_optimizer_step(self, optimizer):
            graphs.append(all(parameter.grad.requires_grad for parameter in self.parameters()))

    net, _ = fit(SOPHIA, Watching(), steps=6)
    assert graphs == [True, False, False, True, False, False]
    assert "backward" not in vars(net)


@pytest.mark.parametrize(
    ("precision", "devices", "message"),
    [("16-mixed", 1, "sophia cannot train in 16-mixed"), ("32-true", 2, "sophia trains on one device")],
)
def test_sophia_refuses_what_gives_it_a_wrong_curvature(precision, devices, message):
    # a CPU's Trainer has neither: it takes bf16-mixed for 16-mixed
    trainer = SimpleNamespace(precision=precision, world_size=devices)
    (keeper,) = quirk_callbacks(Recipe(Part("sophia")))
    with pytest.raises(ModelError, match=message):
        keeper.setup(trainer, m.Net(), "fit")


def test_an_optimizer_that_bounds_its_steps_itself_turns_clipping_off_and_says_so():
    callback = RecipeCallback(Recipe(Part("lamb", {"lr": 1e-3}), gradient_clip_norm=1.0))
    with pytest.warns(
        UserWarning, match="lamb bounds its steps itself; the recipe's gradient_clip_norm=1.0 is left out"
    ):
        m.quiet_trainer(callback, max_steps=2).fit(m.Net(), *m.loaders())
    assert callback.recipe.gradient_clip_norm is None


def test_plateau_follows_the_monitor():
    recipe = Recipe(Part("sgd", {"lr": 0.1}), Part("plateau"))
    callback = RecipeCallback(recipe, monitor="val_loss")
    trainer = m.quiet_trainer(callback, max_epochs=2)
    trainer.fit(m.Net(), *m.loaders())
    (config,) = trainer.lr_scheduler_configs
    assert (config.monitor, config.reduce_on_plateau) == ("val_loss", True)


@pytest.mark.parametrize("weights_only", [False, True])
def test_checkpoints_saved_at_validations_hold_the_weights_that_were_validated(tmp_path, weights_only):
    validated = {}

    class Watching(m.Net):
        def on_validation_epoch_start(self):
            validated[self.trainer.global_step] = weights(self)

    saving = lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=tmp_path, filename="{step}", save_top_k=-1, monitor="val_loss", save_weights_only=weights_only
    )
    lightning.seed_everything(0, verbose=False)
    net = Watching()
    trainer = m.quiet_trainer(RecipeCallback(SCHEDULE_FREE), saving, max_epochs=2, enable_checkpointing=True)
    trainer.fit(net, *m.loaders())
    saved = sorted(tmp_path.glob("*.ckpt"))
    assert len(saved) == 2
    for path in saved:
        step = int(path.stem.removeprefix("step="))
        kept = m.Net()
        kept.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        assert torch.allclose(weights(kept), validated[step], rtol=1e-5, atol=1e-7)
    assert "on_save_checkpoint" not in vars(net)
