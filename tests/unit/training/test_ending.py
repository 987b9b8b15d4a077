import math

import lightning.pytorch as pl
import pytest

from opttune.errors import ModelError, MonitorError
from opttune.guard.rules import StopDecision
from opttune.outcome import StopReason
from opttune.training.ending import FinishWithValidation, conclude
from tests.support import models as m


def fit(*callbacks, stop_at_step=None, model=None, data=None, **settings):
    finish, watch = FinishWithValidation(stop_at_step), m.Watch()
    trainer = m.quiet_trainer(*callbacks, finish, watch, **settings)
    trainer.fit(model or m.Net(), *(data or m.loaders()))
    return watch, trainer, finish


@pytest.mark.parametrize(
    ("settings", "validated_at"),
    [
        ({"max_steps": 20}, [8, 16, 20]),
        ({"max_steps": 16}, [8, 16]),
        ({"max_steps": 5}, [5]),
        ({"max_epochs": 3}, [8, 16, 24]),
        ({"max_epochs": 3, "check_val_every_n_epoch": 5}, [24]),
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, [16, 24]),
        ({"max_steps": 20, "check_val_every_n_epoch": 5}, [20]),
        ({"max_epochs": 2, "val_check_interval": 0.5}, [4, 8, 12, 16]),
        ({"max_epochs": 2, "val_check_interval": 3}, [3, 6, 11, 14, 16]),
        ({"max_steps": 20, "val_check_interval": 7, "check_val_every_n_epoch": None}, [7, 14, 20]),
        ({"max_steps": 20, "min_epochs": 4}, [8, 16, 20]),
        ({"max_steps": 20, "min_steps": 20}, [8, 16, 20]),
        ({"max_epochs": 3, "min_epochs": 3}, [8, 16, 24]),
        ({"max_epochs": 2, "accumulate_grad_batches": 4}, [2, 4]),
        ({"max_epochs": 2, "accumulate_grad_batches": 3}, [3, 6]),
        ({"max_steps": 5, "accumulate_grad_batches": 3}, [3, 5]),
        ({"max_epochs": 3, "limit_train_batches": 3}, [3, 6, 9]),
        ({"max_epochs": 3, "limit_train_batches": 3, "max_steps": 7}, [3, 6, 7]),
    ],
    ids=str,
)
def test_every_full_length_ends_with_one_validation(settings, validated_at):
    watch, trainer, finish = fit(**settings)
    assert watch.validated_at == validated_at
    assert watch.validation_batches == 2 * len(validated_at)
    assert trainer.global_step == finish.total_steps == validated_at[-1]


@pytest.mark.parametrize("settings", [{"max_steps": 20}, {"max_epochs": 3}])
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_no_validation_stays_none(settings):
    watch, trainer, _ = fit(limit_val_batches=0, **settings)
    assert (watch.validated_at, trainer.limit_val_batches) == ([], 0)
    watch, trainer, _ = fit(data=(m.train_loader(),), **settings)
    assert watch.validated_at == []


def test_the_trainers_settings_are_put_back():
    settings = {"check_val_every_n_epoch": 5, "min_epochs": 2, "limit_val_batches": 1.0}
    _, trainer, _ = fit(max_epochs=3, **settings)
    assert {name: getattr(trainer, name) for name in settings} == settings


def test_after_an_error_the_trainers_settings_are_put_back():
    class Failing(m.AnyCallback):
        def on_train_end(self, trainer, pl_module):
            raise RuntimeError("in a late hook")

    trainer = m.quiet_trainer(FinishWithValidation(), Failing(), max_epochs=3, check_val_every_n_epoch=5)
    with pytest.raises(RuntimeError, match="in a late hook"):
        trainer.fit(m.Net(), *m.loaders())
    assert trainer.check_val_every_n_epoch == 5


@pytest.mark.parametrize("settings", [{"max_steps": 20}, {"max_epochs": 3, "min_epochs": 2}])
def test_a_run_may_end_at_an_earlier_step(settings):
    watch, trainer, finish = fit(stop_at_step=5, **settings)
    assert (watch.validated_at, trainer.global_step) == ([5], 5)
    assert finish.total_steps == (20 if "max_steps" in settings else 24)


def test_a_run_may_end_with_its_first_batch():
    watch, trainer, finish = fit(stop_at_step=0, max_steps=20)
    assert (watch.validated_at, trainer.global_step, finish.total_steps) == ([], 1, 20)
    assert trainer.limit_val_batches == 1.0


def test_a_step_beyond_the_full_length_is_its_end():
    watch, trainer, _ = fit(stop_at_step=99, max_steps=20)
    assert (watch.validated_at, trainer.global_step) == ([8, 16, 20], 20)


class Impatient(m.AnyCallback):
    """Wants to stop from a step on, as an EarlyStopping or a Timer does."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.step


def test_a_stop_that_the_trainer_ignored_takes_no_validation_away():
    # min_epochs keeps the training going, with should_stop set all the while
    watch, _, _ = fit(Impatient(3), max_steps=20, min_epochs=9, check_val_every_n_epoch=5)
    assert watch.validated_at == [20]


def test_a_stop_at_the_very_last_step_takes_no_validation_away():
    watch, _, _ = fit(Impatient(20), max_steps=20, check_val_every_n_epoch=5)
    assert watch.validated_at == [20]


def test_the_users_early_stopping_ends_the_training_as_ever():
    stopping = pl.callbacks.EarlyStopping("val_loss", patience=1, min_delta=9.0)
    watch, trainer, finish = fit(stopping, max_epochs=5)
    assert (watch.validated_at, trainer.global_step, finish.total_steps) == ([8, 16], 16, 40)


def test_a_length_that_cannot_be_known_is_refused():
    with pytest.raises(ModelError, match="no length"):
        fit(data=(m.stream_loader(), m.val_loader()), max_epochs=2)


@pytest.fixture
def trained():
    trainer = m.quiet_trainer(max_steps=8)
    trainer.fit(m.Net(), *m.loaders())
    return trainer


def test_a_full_length_is_completed_with_the_value_at_its_end(trained):
    reason, value, message = conclude(trained, None, "val_loss", 8)
    assert (reason, message) == (StopReason.COMPLETED, "")
    assert value == trained.callback_metrics["val_loss"].item()


def test_a_shorter_run_was_stopped_early_and_its_value_counts(trained):
    reason, value, message = conclude(trained, None, "val_loss", 20)
    assert (reason, message) == (StopReason.EARLY_STOPPED, "ended after 8 of 20 steps")
    assert value == trained.callback_metrics["val_loss"].item()


def test_a_paused_run_has_the_value_of_its_rung(trained):
    reason, value, message = conclude(trained, None, "val_loss", 20, paused=True)
    assert (reason, message) == (StopReason.PAUSED, "paused after 8 of 20 steps")
    assert value == trained.callback_metrics["val_loss"].item()


def test_the_guards_decision_comes_first(trained):
    decision = StopDecision(StopReason.BLOW_UP, 4, "the loss ran away")
    assert conclude(trained, decision, "never_logged", 8) == (StopReason.BLOW_UP, None, "the loss ran away")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_none(trained, value):
    trained.callback_metrics["val_loss"].fill_(value)
    assert conclude(trained, None, "val_loss", 8) == (StopReason.NON_FINITE, None, f"val_loss was {value:g} at the end")


def test_a_monitor_that_was_never_logged_is_an_error(trained):
    with pytest.raises(MonitorError, match=r"'val_accuracy' was never logged\. .*Logged: train_loss, val_loss\."):
        conclude(trained, None, "val_accuracy", 8)
