import pytest
import torch

from opttune.errors import MonitorError
from opttune.training.metrics import MetricsReporter, read_metrics, read_monitor
from tests.support import models as m


class Logging(m.Net):
    """Logs by step, by epoch, at the end of the training epoch, and in validation."""

    def training_step(self, batch, batch_idx):
        self.log("step_now", float(self.global_step))
        self.log("epoch_mean", float(self.current_epoch), on_step=False, on_epoch=True)
        return self.loss(batch)

    def on_train_epoch_end(self):
        self.log("at_epoch_end", 10.0 + self.current_epoch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", float(self.global_step))


def reported(*callbacks, **settings):
    reports = []
    reporter = MetricsReporter(lambda step, values: reports.append((step, dict(values))))
    trainer = m.quiet_trainer(reporter, *callbacks, **{"max_epochs": 3, **settings})
    trainer.fit(Logging(), *m.loaders())
    return reports


def points(reports, name):
    return [(step, values[name]) for step, values in reports if name in values]


def test_a_validations_metrics_are_reported_after_it():
    reports = reported(num_sanity_val_steps=2)
    assert points(reports, "val_loss") == [(8, 8.0), (16, 16.0), (24, 24.0)]
    assert points(reports, "step_now") == [(8, 7.0), (16, 15.0), (24, 23.0)]


@pytest.mark.parametrize("settings", [{}, {"val_check_interval": 3}, {"check_val_every_n_epoch": 2}], ids=str)
def test_the_metrics_of_a_training_epoch_are_reported_once_after_it(settings):
    reports = reported(**settings)
    assert points(reports, "epoch_mean") == [(8, 0.0), (16, 1.0), (24, 2.0)]
    assert points(reports, "at_epoch_end") == [(8, 10.0), (16, 11.0), (24, 12.0)]


def test_each_validation_is_reported_once():
    assert points(reported(val_check_interval=3), "val_loss") == [
        (step, float(step)) for step in (3, 6, 11, 14, 19, 22)
    ]
    assert points(reported(check_val_every_n_epoch=2), "val_loss") == [(16, 16.0)]


def test_without_a_validation_the_training_metrics_are_reported():
    assert points(reported(limit_val_batches=0), "step_now") == [(8, 7.0), (16, 15.0), (24, 23.0)]


def test_metrics_are_read_as_plain_numbers():
    assert read_metrics({"a": torch.tensor(0.5), "b": torch.tensor([2])}) == {"a": 0.5, "b": 2.0}


def test_the_monitor_is_read():
    assert read_monitor({"val_loss": torch.tensor(0.5)}, "val_loss") == 0.5


def test_a_monitor_that_was_never_logged_lists_what_was():
    metrics = {"val_los": torch.tensor(1.0), "train_loss": torch.tensor(1.0)}
    with pytest.raises(MonitorError) as caught:
        read_monitor(metrics, "val_loss")
    assert str(caught.value) == (
        "the monitored metric 'val_loss' was never logged. Did you mean 'val_los'? Logged: train_loss, val_los. "
        "Choose one of them, or log it in validation_step: self.log('val_loss', value), and give validation data."
    )


def test_nothing_logged_is_said_so():
    with pytest.raises(MonitorError, match=r"'val_loss' was never logged; nothing was\..*log it in"):
        read_monitor({}, "val_loss")
