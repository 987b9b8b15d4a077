"""A loss that stalls: stopped at a tenth of the length, unless validation improves."""

import pytest

from opttune import GuardCallback
from opttune.outcome import StopReason
from tests.support import models as m
from tests.support.fits import STOPPED, guarded_fit

pytestmark = pytest.mark.filterwarnings("ignore:opttune notes that the loss jumped:UserWarning")


class Stalling(m.ScriptedNet):
    """A loss that stalls, and scripted validations."""

    def __init__(self, validations, losses=(0.7,)):
        super().__init__(list(losses))
        self.validations = validations
        self.count = 0

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.validations[min(self.count, len(self.validations) - 1)])

    def on_validation_epoch_end(self):
        self.count += 1


@pytest.mark.parametrize("fit_settings", [{"max_steps": 200}, {"max_steps": 200, "num_sanity_val_steps": 1}])
def test_a_loss_that_stalls_is_stopped_at_a_tenth_of_the_length(fit_settings):
    with pytest.warns(UserWarning, match=r"\(stall\): the loss did not fall: .* or a larger one if it was small"):
        callback, watch, trainer = guarded_fit(Stalling([0.7]), **fit_settings)
    assert (callback.decision.reason, callback.decision.step, trainer.global_step) == (StopReason.STALL, 20, 20)
    assert watch.validated_at == [8, 16]


@pytest.mark.parametrize(("mode", "values"), [("min", [0.7, 0.68]), ("max", [0.1, 0.11])])
def test_a_validation_that_improves_vetoes_a_stall(mode, values):
    callback, watch = GuardCallback(mode=mode), m.Watch()
    trainer = m.quiet_trainer(callback, watch, max_steps=60)
    trainer.fit(Stalling(values), *m.loaders())
    assert (callback.decision, trainer.global_step) == (None, 60)


@pytest.mark.filterwarnings("ignore:opttune notes that the loss had not fallen by step 20")
def test_without_two_validations_a_stall_is_only_noted():
    for settings in ({"limit_val_batches": 0}, {"check_val_every_n_epoch": 20}):
        callback, _, trainer = guarded_fit(Stalling([0.7]), max_steps=200, **settings)
        assert (callback.decision, trainer.global_step) == (None, 200)
        assert callback.alarms == ("the loss had not fallen by step 20",)


@pytest.mark.filterwarnings(STOPPED, "ignore:opttune notes that the loss had not fallen by step 20")
def test_a_stall_waits_for_the_second_validation():
    callback, _, trainer = guarded_fit(Stalling([0.7]), max_steps=200, check_val_every_n_epoch=3)
    assert (callback.decision.step, trainer.global_step) == (49, 49)


def test_a_stall_is_not_looked_for_while_the_rate_rises():
    class Warming(Stalling):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            rise = m.torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 50))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rise, "interval": "step"}}

    # the loss falls between the tenth of the length and the end of the warmup
    callback, _, trainer = guarded_fit(Warming([0.7], [0.7] * 40 + [0.5] * 160), max_steps=200)
    assert (callback.decision, trainer.global_step) == (None, 200)
    with pytest.warns(UserWarning, match="the loss did not fall: its median was 0.7 at step 60"):
        guarded_fit(Warming([0.7]), max_steps=200)
