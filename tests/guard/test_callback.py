import csv

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from torch import nn

from opttune import Guard, GuardCallback
from opttune.errors import InputError
from opttune.outcome import StopReason
from tests import modules as m

STOPPED = "ignore:opttune stopped the training:UserWarning"


def fit(model, *callbacks, guard=None, listener=None, data=None, ckpt_path=None, **settings):
    """Train under a guard; return its callback, what was watched and the Trainer."""
    callback, watch = GuardCallback(guard, listener=listener), m.Watch()
    settings = {"max_steps": 400, "check_val_every_n_epoch": 1, **settings}
    trainer = m.quiet_trainer(callback, watch, *callbacks, **settings)
    trainer.fit(model, *(data or m.loaders()), ckpt_path=ckpt_path)
    return callback, watch, trainer


class OtherNan(m.OtherNet):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) * (float("nan") if self.global_step >= 6 else 1)


@pytest.mark.parametrize(("namespace", "net"), [(pl, m.NanAtStep7), (pytorch_lightning, OtherNan)])
def test_a_loss_that_becomes_nan_ends_the_training_at_once(namespace, net):
    with pytest.warns(UserWarning, match=r"opttune stopped the training: the loss became nan at step 7\."):
        callback, watch, trainer = fit(net(), namespace=namespace)
    assert (callback.verdict.reason, callback.verdict.step) == (StopReason.NON_FINITE, 7)
    assert (trainer.global_step, watch.validated_at, watch.validation_batches) == (7, [], 0)
    assert (trainer.state.finished, trainer.limit_val_batches) == (True, 1.0)


class Mlp(m.Net):
    """With the learning rate that sends it off."""

    optimizer = torch.optim.SGD

    def __init__(self):
        super().__init__(lr=1e3)

    def configure_optimizers(self):
        return self.optimizer(self.parameters(), lr=self.lr)


class Recurrent(Mlp):
    def __init__(self):
        super().__init__()
        self.lstm, self.net = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 2)

    def loss(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self.net(self.lstm(x[..., None])[0][:, -1]), y)


class Transformer(Mlp):
    def __init__(self):
        super().__init__()
        self.embed, self.net = nn.Linear(1, 16), nn.Linear(16, 2)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    def loss(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self.net(self.layer(self.embed(x[..., None])).mean(1)), y)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("net", [Mlp, Recurrent, Transformer])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings(STOPPED)
def test_a_rate_of_1000_is_stopped_within_3_percent_of_the_steps(net, optimizer, seed):
    torch.manual_seed(seed)
    model = net()
    model.optimizer = optimizer
    callback, watch, trainer = fit(model)
    assert callback.verdict.reason.is_divergence
    assert trainer.global_step <= 12
    assert trainer.global_step not in watch.validated_at


@pytest.mark.filterwarnings(STOPPED)
def test_after_the_stop_nothing_is_validated_though_an_epoch_was():
    callback, watch, _ = fit(m.ScriptedNet([*[0.7] * 10, float("nan")]))
    assert callback.verdict.step == 11
    assert (watch.validated_at, watch.validation_batches) == ([8], 2)


@pytest.mark.parametrize("scaled", [1.0, 1e6])
def test_a_catapult_and_a_single_spike_are_not_stopped(scaled):
    losses = [2.0, 4.0, 6.0, 5.0, 3.0, 2.0, *[1.5] * 20, 2e5, *[1.4] * 20]
    callback, _, trainer = fit(m.ScriptedNet([scaled * loss for loss in losses]), max_steps=60)
    assert (callback.verdict, trainer.global_step) == (None, 60)


def test_a_log_likelihood_that_crosses_zero_is_not_stopped():
    callback, _, trainer = fit(m.ScriptedNet([0.5 - 0.05 * step for step in range(60)]), max_steps=60)
    assert (callback.verdict, trainer.global_step) == (None, 60)


@pytest.mark.filterwarnings(STOPPED)
def test_a_training_of_unknown_length_is_guarded():
    settings = {"max_steps": -1, "max_epochs": -1, "data": (m.stream_loader(), m.val_loader())}
    callback, _, trainer = fit(m.ScriptedNet([*[0.7] * 30, float("nan")]), **settings)
    assert (callback.verdict.step, trainer.global_step) == (31, 31)
    callback, _, trainer = fit(m.ScriptedNet([0.7, 500.0]), **settings)
    assert callback.verdict.step == 4


@pytest.mark.filterwarnings(STOPPED)
def test_minimums_do_not_keep_a_broken_training_going():
    _, _, trainer = fit(m.NanAtStep7(), min_steps=50, min_epochs=3)
    assert trainer.global_step == 7
    assert (trainer.min_steps, trainer.min_epochs) == (50, 3)


@pytest.mark.filterwarnings(STOPPED)
def test_the_users_own_callbacks_and_loggers_end_in_good_order(tmp_path):
    ended = []

    class Logger(pl.loggers.CSVLogger):
        def finalize(self, status):
            ended.append(status)
            super().finalize(status)

    stopping = pl.callbacks.EarlyStopping("val_loss")
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path / "kept", "{step}", monitor="val_loss")
    settings = {"num_sanity_val_steps": 2, "enable_checkpointing": True, "log_every_n_steps": 1}
    _, _, trainer = fit(m.NanAtStep7(), stopping, checkpoint, logger=Logger(tmp_path), **settings)
    assert (trainer.global_step, ended) == (7, ["success"])
    assert (stopping.strict, checkpoint.save_top_k, list(tmp_path.glob("kept/*"))) == (True, 1, [])
    rows = list(csv.DictReader((tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()))
    assert [row["train_loss"] for row in rows] == [*["0.699999988079071"] * 6, "nan"]


@pytest.mark.parametrize("net", [m.Net, m.DictNet])
@pytest.mark.parametrize("batches", [8, 10])
def test_the_loss_of_an_accumulated_step_is_the_mean_over_its_batches(net, batches):
    seen, records = [], []

    class Noting(net):
        def loss(self, batch):
            loss = super().loss(batch)
            if self.trainer.training:
                seen.append(loss.item())
            return loss

    data = (m.train_loader(4 * batches), m.val_loader())
    fit(Noting(), listener=records.extend, data=data, accumulate_grad_batches=4, max_steps=-1, max_epochs=2)
    windows = [range(i, min(i + 4, batches)) for i in range(0, batches, 4)]
    expected = [sum(seen[epoch + i] for i in window) / len(window) for epoch in (0, batches) for window in windows]
    assert [record.loss for record in records] == pytest.approx(expected, rel=1e-6)
    assert [record.step for record in records] == list(range(1, len(expected) + 1))


def test_the_listener_hears_of_every_step_once_with_the_rate_it_used():
    records = []
    _, watch, _ = fit(m.ScheduledNet(), listener=records.extend, guard=False, max_steps=20)
    assert [record.step for record in records] == list(range(1, 21))
    assert [record.lr for record in records] == watch.lrs
    assert all(record.grad_norm > 0 for record in records)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_without_a_loss_is_passed_over():
    records = []
    callback, _, _ = fit(m.SkippingNet(), listener=records.extend, max_steps=20)
    assert [record.loss is None for record in records] == [False, True] * 10
    assert callback.verdict is None


def test_a_module_that_steps_its_optimizer_itself_is_let_be():
    callback, _, trainer = fit(m.ManualNet(), max_steps=20)
    assert (callback.verdict, trainer.global_step) == (None, 20)


def test_the_sanity_check_is_not_part_of_the_training():
    records = []
    fit(m.Net(), listener=records.extend, max_steps=3, num_sanity_val_steps=2)
    assert [record.step for record in records] == [1, 2, 3]


@pytest.mark.filterwarnings(STOPPED)
def test_a_resumed_training_is_guarded_against_what_is_not_finite(tmp_path):
    _, _, trainer = fit(m.ScriptedNet([0.1]), max_steps=16)
    trainer.save_checkpoint(tmp_path / "at.ckpt")
    callback, _, trainer = fit(m.ScriptedNet([*[5.0] * 9, float("nan")]), ckpt_path=tmp_path / "at.ckpt")
    assert callback.verdict.message == "the loss became nan at step 26"
    # how the loss began is not known any more, so that its rising says nothing
    callback, _, trainer = fit(m.ScriptedNet([0.1, *[5.0] * 90]), ckpt_path=tmp_path / "at.ckpt", max_steps=60)
    assert (callback.verdict, trainer.global_step) == (None, 60)


@pytest.mark.filterwarnings(STOPPED)
def test_a_second_fit_is_judged_anew():
    guard = GuardCallback()
    m.quiet_trainer(guard, max_steps=20).fit(m.NanAtStep7(), *m.loaders())
    assert guard.verdict is not None
    m.quiet_trainer(guard, max_steps=20).fit(m.Net(), *m.loaders())
    assert guard.verdict is None


def test_of_a_long_training_only_the_losses_still_needed_are_kept():
    callback, _, _ = fit(m.Net(), max_steps=200)
    assert len(callback._losses) == 6


def test_after_an_error_the_trainers_settings_are_back():
    class Failing(m.AnyCallback):
        def on_train_epoch_end(self, trainer, pl_module):
            raise RuntimeError("in the last hook")

    guard = GuardCallback()
    trainer = m.quiet_trainer(guard, Failing(), max_steps=400)
    with pytest.warns(UserWarning, match="opttune stopped"), pytest.raises(RuntimeError, match="in the last hook"):
        trainer.fit(m.NanAtStep7(), *m.loaders())
    assert trainer.limit_val_batches == 1.0


def test_a_guard_that_guards_nothing_is_refused():
    with pytest.raises(InputError, match="guard=False guards nothing; leave the callback out"):
        GuardCallback(False)


@pytest.mark.filterwarnings(STOPPED)
def test_the_settings_are_heeded():
    losses = [0.7, 500.0]
    assert fit(m.ScriptedNet(losses), guard=Guard.finite_only(), max_steps=40)[2].global_step == 40
    assert fit(m.ScriptedNet(losses), guard=Guard(runaway_ratio=1000), max_steps=400)[2].global_step == 14


def test_a_paused_guard_goes_on_with_what_it_knew():
    guard, *_ = fit(m.ScriptedNet([1.0, 0.9, 0.8]), max_steps=5)
    progress = guard.progress()
    assert progress == {"losses": pytest.approx([1.0, 0.9, 0.8, 0.8, 0.8]), "blow_up": True}
    resumed = GuardCallback()
    resumed.go_on_from(progress)
    assert resumed.progress() == progress
    listening = GuardCallback(False, listener=print)
    listening.go_on_from({"losses": [], "blow_up": False})
    assert listening.progress() == {"losses": [], "blow_up": False}
