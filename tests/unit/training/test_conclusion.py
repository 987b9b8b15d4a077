import math

import pytest

from opttune.errors import MonitorError
from opttune.guard.rules import Verdict
from opttune.outcome import StopReason
from opttune.training.conclusion import conclude
from tests.support import models as m


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


def test_the_guards_verdict_comes_first(trained):
    verdict = Verdict(StopReason.BLOW_UP, 4, "the loss ran away")
    assert conclude(trained, verdict, "never_logged", 8) == (StopReason.BLOW_UP, None, "the loss ran away")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_none(trained, value):
    trained.callback_metrics["val_loss"].fill_(value)
    assert conclude(trained, None, "val_loss", 8) == (StopReason.NON_FINITE, None, f"val_loss was {value:g} at the end")


def test_a_monitor_that_was_never_logged_is_an_error(trained):
    with pytest.raises(MonitorError, match=r"'val_accuracy' was never logged\. .*Logged were: train_loss, val_loss\."):
        conclude(trained, None, "val_accuracy", 8)
