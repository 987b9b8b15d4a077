import logging
from contextlib import nullcontext

import lightning.pytorch as pl
import pytest
import pytorch_lightning
from lightning.pytorch import seed_everything

from opttune import Recipe, RecipeCallback
from opttune.errors import InputError, ModelError, RecipeError, UnknownNameError
from opttune.guard.rules import Guard
from opttune.outcome import StopReason
from opttune.recipe import Part
from opttune.space.recipe_file import save_recipe
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.workload import Workload
from tests.support import models as m

RECIPE = Recipe(
    Part("adamw", {"lr": 0.03, "betas": (0.9, 0.95)}),
    Part("cosine", {"warmup_fraction": 0.1}),
    gradient_clip_norm=0.5,
    accumulate_grad_batches=2,
)


class Dropping:
    """With dropout, so that the random numbers must be the same, too."""

    def loss(self, batch):
        x, y = batch
        return m.nn.functional.cross_entropy(self.net(m.nn.functional.dropout(x, 0.3, self.training)), y)


class Net(Dropping, m.Net):
    pass


class OtherNet(Dropping, m.OtherNet):
    pass


@pytest.fixture
def best_recipe(tmp_path):
    save_recipe(RECIPE, tmp_path / "best_recipe.yaml")
    return tmp_path / "best_recipe.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("length", [{"max_steps": 18}, {"max_steps": 16}, {"max_epochs": 3}], ids=str)
@pytest.mark.parametrize(("namespace", "net"), [(pl, Net), (pytorch_lightning, OtherNet)])
@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.usefixtures("_kept_seed")
def test_it_reaches_the_value_of_the_attempt_again_exactly(best_recipe, namespace, net, length, sanity):
    attempt = Attempt(RECIPE, "val_loss", seed=11, trainer={"accelerator": "cpu", **length})
    outcome = run_attempt(attempt, Workload(net, m.Data if namespace is pl else m.loaders), NullListener())
    seed_everything(11, workers=True, verbose=False)
    model, trainer = (
        net(),
        m.quiet_trainer(RecipeCallback(best_recipe), namespace=namespace, num_sanity_val_steps=sanity, **length),
    )
    trainer.fit(model, *m.loaders())
    assert outcome.reason is StopReason.COMPLETED
    assert trainer.callback_metrics["val_loss"].item() == outcome.value
    (found,) = trainer.validate(model, m.val_loader(), verbose=False)
    assert found["val_loss"] == outcome.value
    assert "configure_optimizers" not in vars(model)


@pytest.fixture
def _kept_seed(monkeypatch):
    # seed_everything leaves them behind
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


def fit(callback, model=None, ckpt_path=None, callbacks=(), **settings):
    watch = m.Watch()
    trainer = m.quiet_trainer(callback, watch, *callbacks, **{"max_steps": 20, **settings})
    trainer.fit(model or m.Net(), *m.loaders(), ckpt_path=ckpt_path)
    return watch, trainer


def test_what_is_replaced_is_said(caplog, monkeypatch):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with caplog.at_level(logging.INFO):
        fit(RecipeCallback(Recipe(Part("adamw", {"lr": 3e-4}))))
    assert "opttune: replaced SGD(lr=0.0001) by adamw(lr=0.0003), constant(); " in caplog.text


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        ({"lr_factor": 100.0}, "SGD(lr=0.0001) is kept, with its learning rate times 100; "),
        ({}, "SGD(lr=0.0001) is kept with nothing moved; "),
    ],
)
def test_what_is_kept_is_said(caplog, monkeypatch, moved, words):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with caplog.at_level(logging.INFO):
        fit(RecipeCallback(Recipe.from_dict({"optimizer": {"name": "own", **moved}})))
    assert f"opttune: {words}" in caplog.text


@pytest.mark.parametrize(("trainers", "norm"), [(None, "0.5"), (1.0, "1")])
def test_the_clipping_in_force_is_said(caplog, monkeypatch, trainers, norm):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    recipe = Recipe(Part("adamw", {"lr": 3e-4}), gradient_clip_norm=0.5)
    left_out = pytest.warns(UserWarning, match="gradient_clip_val=1.0 stays") if trainers else nullcontext()
    with caplog.at_level(logging.INFO), left_out:
        fit(RecipeCallback(recipe), gradient_clip_val=trainers)
    assert f"by adamw(lr=0.0003), constant(), clip_norm={norm}; " in caplog.text


def test_the_samples_of_a_step_are_said(caplog, monkeypatch):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with caplog.at_level(logging.INFO):
        fit(RecipeCallback(Recipe(Part("adamw", {"lr": 3e-4}), accumulate_grad_batches=2)))
    batch = m.loaders()[0].batch_size
    assert f"; {2 * batch} samples a step ({batch} a batch x 2 accumulated x 1 devices)" in caplog.text


def test_what_the_trainer_sets_itself_is_warned_of():
    callback = RecipeCallback(RECIPE)
    note = r"opttune: the Trainer's gradient_clip_val=2\.0 stays; the recipe's gradient_clip_norm=0\.5 is left out\."
    with pytest.warns(UserWarning, match=note):
        fit(callback, gradient_clip_val=2.0)
    assert callback.recipe.gradient_clip_norm == 2.0


@pytest.mark.parametrize("stop", [8, 11])
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_training_resumed_from_a_checkpoint_follows_its_schedule_to_the_end(tmp_path, stop):
    recipe = Recipe(Part("adamw", {"lr": 0.03}), Part("cosine", {"warmup_fraction": 0.1}))
    whole, _ = fit(RecipeCallback(recipe))
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=stop)
    fit(RecipeCallback(recipe), callbacks=[checkpoint], max_steps=stop + 3, enable_checkpointing=True)
    resumed, trainer = fit(RecipeCallback(recipe), ckpt_path=next(tmp_path.iterdir()))
    assert resumed.lrs == pytest.approx(whole.lrs[stop:], abs=1e-12, rel=0)
    assert (trainer.global_step, resumed.validated_at[-1]) == (20, 20)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_training_that_has_ended_is_resumed_with_a_larger_length(tmp_path):
    recipe = Recipe(Part("adamw", {"lr": 0.03}), Part("linear"))
    _, trainer = fit(RecipeCallback(recipe), max_steps=11)
    trainer.save_checkpoint(tmp_path / "at.ckpt")
    resumed, trainer = fit(RecipeCallback(recipe), ckpt_path=tmp_path / "at.ckpt", max_steps=30)
    assert resumed.lrs == pytest.approx([0.03 * (1 - step / 30) for step in range(11, 30)], abs=1e-9, rel=0)
    assert (trainer.global_step, resumed.validated_at[-1]) == (30, 30)


def test_one_callback_serves_several_fits():
    callback = RecipeCallback(RECIPE)
    first, _ = fit(callback)
    second, _ = fit(callback, namespace=pytorch_lightning, model=m.OtherNet())
    assert first.lrs == second.lrs


@pytest.mark.filterwarnings("ignore:opttune notes that the loss jumped")
def test_it_guards_only_where_it_is_told_to():
    recipe, losses = Recipe(Part("adamw", {"lr": 0.03})), [0.7, 500.0]
    assert fit(RecipeCallback(recipe), m.ScriptedNet(losses))[1].global_step == 20
    for guard in (True, Guard(alarms=False)):
        callback = RecipeCallback(recipe, guard=guard)
        with pytest.warns(UserWarning, match=r"opttune stopped the training \(blow_up\): the loss ran away"):
            _, trainer = fit(callback, m.ScriptedNet(losses))
        assert (trainer.global_step, callback.decision.step) == (10, 10)


def test_a_model_that_cannot_be_tuned_is_refused():
    with pytest.raises(ModelError, match="2 optimizers"):
        fit(RecipeCallback(RECIPE), m.GanNet())


@pytest.mark.parametrize(
    ("text", "error", "problem"),
    [
        ("optimizer: {name: adamww, lr: 1e-3}", UnknownNameError, r"bad\.yaml:1: .*'adamww'.* Did you mean 'adamw'\?"),
        ("optimizer: {name: adamw, momentum: 0.9}", RecipeError, r"bad\.yaml:1: optimizer 'adamw' takes no 'momentum'"),
        ("optimizer: adamw\nschedul: cosine", RecipeError, r"bad\.yaml:2: .*'schedul'"),
        ("- 1", RecipeError, r"bad\.yaml:1: "),
    ],
)
def test_a_recipe_file_that_cannot_be_used_is_refused_with_its_place(tmp_path, text, error, problem):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(error, match=problem):
        RecipeCallback(tmp_path / "bad.yaml")


def test_a_recipe_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*none\.yaml: No such file or directory"):
        RecipeCallback(str(tmp_path / "none.yaml"))


def test_a_guard_that_is_none_is_refused():
    with pytest.raises(InputError, match="guard must be an opttune"):
        RecipeCallback(RECIPE, guard="on")


def test_a_recipe_may_be_what_a_recipe_file_holds() -> None:
    plain = {"optimizer": {"name": "adamw", "lr": 3e-4}, "schedule": "cosine"}

    assert RecipeCallback(plain).recipe == RecipeCallback(Recipe.from_dict(plain)).recipe


def test_the_former_name_of_the_guards_decision_still_works_and_warns():
    callback = RecipeCallback(RECIPE)
    with pytest.warns(DeprecationWarning, match="is now called decision"):
        assert callback.verdict is None
    assert callback.decision is None
