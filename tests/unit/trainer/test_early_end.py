import lightning.pytorch as pl
import pytest

from opttune.trainer.early_end import EarlyEnd
from tests.support import models as m


class EndAt(m.AnyCallback):
    """Ends the fit after a step, and puts everything back afterwards."""

    def __init__(self, step, validate):
        self.step, self.validate = step, validate
        self.early_end = EarlyEnd()

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step >= self.step:
            self.early_end.end(trainer, self.validate)

    def teardown(self, trainer, pl_module, stage):
        self.early_end.restore()


def fit(validate, *callbacks, step=11, model=None, **settings):
    watch = m.Watch()
    trainer = m.quiet_trainer(watch, EndAt(step, validate), *callbacks, **{"max_epochs": 5, **settings})
    trainer.fit(model or m.Net(), *m.loaders())
    return watch, trainer


SETTINGS = [
    {},
    {"check_val_every_n_epoch": 5},
    {"check_val_every_n_epoch": 2},
    {"val_check_interval": 5},
    {"check_val_every_n_epoch": None, "val_check_interval": 100},
    {"min_epochs": 4},
    {"min_steps": 30},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("step", [1, 8, 11, 16])
def test_the_fit_ends_with_one_validation_at_any_point_of_the_epoch(settings, step):
    watch, trainer = fit(True, step=step, **settings)
    assert trainer.global_step == step
    assert watch.validated_at.count(step) == 1
    assert watch.validated_at[-1] == step


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("step", [1, 8, 11, 16])
def test_the_fit_ends_without_a_validation(settings, step):
    watch, trainer = fit(False, step=step, **settings)
    assert trainer.global_step == step
    assert step not in watch.validated_at


@pytest.mark.parametrize("validate", [True, False])
def test_the_trainers_settings_are_put_back(validate, tmp_path):
    given = {"check_val_every_n_epoch": 3, "limit_val_batches": 1.0, "min_epochs": 2, "min_steps": 15}
    stopping, checkpoint = _monitors(tmp_path)
    _, trainer = fit(validate, stopping, checkpoint, enable_checkpointing=True, **given)
    assert {name: getattr(trainer, name) for name in given} == given
    assert (stopping.strict, checkpoint.save_top_k) == (True, 1)


def _monitors(folder):
    stopping = pl.callbacks.EarlyStopping("val_loss")
    return stopping, pl.callbacks.ModelCheckpoint(folder, "best", monitor="val_loss")


def test_two_that_end_the_same_fit_restore_it_in_any_order():
    first, second = EarlyEnd(), EarlyEnd()
    trainer = m.quiet_trainer(max_epochs=5, min_epochs=2, min_steps=3, check_val_every_n_epoch=4)
    first.end(trainer, validate=False)
    second.end(trainer, validate=True)
    first.restore()
    second.restore()
    second.restore()
    assert (trainer.min_epochs, trainer.min_steps) == (2, 3)
    assert (trainer.limit_val_batches, trainer.check_val_every_n_epoch) == (1.0, 4)


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("step", [3, 8, 11])
def test_callbacks_that_monitor_a_missing_validation_do_not_fail(tmp_path, sanity, step):
    stopping, checkpoint = _monitors(tmp_path)
    _, trainer = fit(False, stopping, checkpoint, step=step, num_sanity_val_steps=sanity, enable_checkpointing=True)
    assert (trainer.global_step, stopping.stopped_epoch) == (step, 0)
    # only what was validated is saved under a value
    assert [path.name for path in tmp_path.iterdir()] == (["best.ckpt"] if step > 8 else [])


@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric:RuntimeWarning")
def test_a_plateau_scheduler_that_misses_the_validation_does_not_fail():
    class Plateau(m.Net):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = m.torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}

    _, trainer = fit(False, model=Plateau(), step=8)
    assert trainer.global_step == 8


def test_a_checkpoint_of_the_users_is_saved_at_a_last_validation(tmp_path):
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", monitor="val_loss", save_top_k=-1)
    fit(True, checkpoint, enable_checkpointing=True)
    assert {path.name for path in tmp_path.iterdir()} == {"step=8.ckpt", "step=11.ckpt"}
