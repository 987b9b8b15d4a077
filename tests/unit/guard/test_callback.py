import csv

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from torch import nn

from opttune import Guard, GuardCallback, Recipe, RecipeCallback
from opttune.errors import InputError
from opttune.outcome import StopReason
from tests.support import models as m
from tests.support import several_optimizers as so
from tests.support.fits import STOPPED, guarded_fit

pytestmark = pytest.mark.filterwarnings("ignore:opttune notes that the loss jumped:UserWarning")
TOLD = (
    r"opttune stopped the training \(non_finite\): the loss became nan at step 7\. "
    r"The learning rate was 0.0001; try 1e-05\."
)


class OtherNan(m.OtherNet):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) * (float("nan") if self.global_step >= 6 else 1)


@pytest.mark.parametrize(("namespace", "net"), [(pl, m.NanAtStep7), (pytorch_lightning, OtherNan)])
def test_a_loss_that_becomes_nan_ends_the_training_at_once(namespace, net):
    with pytest.warns(UserWarning, match=TOLD):
        callback, watch, trainer = guarded_fit(net(), namespace=namespace)
    assert (callback.decision.reason, callback.decision.step) == (StopReason.NON_FINITE, 7)
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
    callback, watch, trainer = guarded_fit(model)
    assert callback.decision.reason.is_divergence
    assert trainer.global_step <= 12
    assert trainer.global_step not in watch.validated_at


@pytest.mark.filterwarnings(STOPPED)
def test_after_the_stop_nothing_is_validated_though_an_epoch_was():
    callback, watch, _ = guarded_fit(m.ScriptedNet([*[0.7] * 10, float("nan")]))
    assert callback.decision.step == 11
    assert (watch.validated_at, watch.validation_batches) == ([8], 2)


@pytest.mark.parametrize("scaled", [1.0, 1e6])
def test_a_catapult_and_a_single_spike_are_not_stopped(scaled):
    losses = [2.0, 4.0, 6.0, 5.0, 3.0, 2.0, *[1.5] * 20, 2e5, *[1.4] * 20]
    callback, _, trainer = guarded_fit(m.ScriptedNet([scaled * loss for loss in losses]), max_steps=60)
    assert (callback.decision, trainer.global_step) == (None, 60)


class Catapult(m.Net):
    """A wide linear network on one sample, whose loss rises far above its first before it vanishes (Lewkowycz 2020)."""

    def __init__(self):
        super().__init__()
        m.torch.manual_seed(0)
        self.u, self.v = (nn.Parameter(m.torch.randn(64)) for _ in range(2))

    def training_step(self, batch, batch_idx):
        return (self.u @ self.v / 8) ** 2 / 2

    def configure_optimizers(self):
        optimizer = m.torch.optim.SGD([self.u, self.v], lr=1.8)
        rise = m.torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rise, "interval": "step"}}


def test_a_real_catapult_with_a_large_rate_and_a_warmup_is_not_stopped():
    records = []
    callback, _, trainer = guarded_fit(Catapult(), listener=records.extend, max_steps=200)
    losses = [record.loss for record in records]
    assert max(losses) > 20 * losses[0]
    assert losses[-1] < 1e-4 * losses[0]
    assert (callback.decision, trainer.global_step) == (None, 200)


def test_a_log_likelihood_that_crosses_zero_is_not_stopped():
    callback, _, trainer = guarded_fit(m.ScriptedNet([0.5 - 0.05 * step for step in range(60)]), max_steps=60)
    assert (callback.decision, trainer.global_step) == (None, 60)


@pytest.mark.filterwarnings(STOPPED)
def test_a_training_of_unknown_length_is_guarded():
    settings = {"max_steps": -1, "max_epochs": -1, "data": (m.stream_loader(), m.val_loader())}
    callback, _, trainer = guarded_fit(m.ScriptedNet([*[0.7] * 30, float("nan")]), **settings)
    assert (callback.decision.step, trainer.global_step) == (31, 31)
    callback, _, trainer = guarded_fit(m.ScriptedNet([0.7, 500.0]), **settings)
    assert callback.decision.step == 10


@pytest.mark.filterwarnings(STOPPED)
def test_minimums_do_not_keep_a_broken_training_going():
    _, _, trainer = guarded_fit(m.NanAtStep7(), min_steps=50, min_epochs=3)
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
    _, _, trainer = guarded_fit(m.NanAtStep7(), stopping, checkpoint, logger=Logger(tmp_path), **settings)
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
    guarded_fit(Noting(), listener=records.extend, data=data, accumulate_grad_batches=4, max_steps=-1, max_epochs=2)
    windows = [range(i, min(i + 4, batches)) for i in range(0, batches, 4)]
    expected = [sum(seen[epoch + i] for i in window) / len(window) for epoch in (0, batches) for window in windows]
    assert [record.loss for record in records] == pytest.approx(expected, rel=1e-6)
    assert [record.step for record in records] == list(range(1, len(expected) + 1))


def test_the_listener_receives_every_step_once_with_the_rate_it_used():
    records = []
    _, watch, _ = guarded_fit(m.ScheduledNet(), listener=records.extend, guard=False, max_steps=20)
    assert [record.step for record in records] == list(range(1, 21))
    assert [record.lr for record in records] == watch.lrs
    assert all(record.grad_norm > 0 for record in records)


@pytest.mark.parametrize("optimization", ["automatic", "manual"])
def test_the_rate_of_an_own_optimizer_is_the_one_that_trains(optimization):
    records = []
    recipe = Recipe.from_dict({"optimizer": {"name": "own", "lr_factor": 4.0}})
    net = m.ManualNet() if optimization == "manual" else m.Net()
    guarded_fit(net, RecipeCallback(recipe), listener=records.extend, guard=False, max_steps=20)
    own = net.configure_optimizers().param_groups[0]["lr"]
    assert [record.lr for record in records] == [pytest.approx(4 * own)] * 20


class CallsItsListOptimizers(m.ManualNet):
    """As solvers of PINA do: the name hides the method of LightningModule."""

    optimizers = ()

    def training_step(self, batch, batch_idx):
        optimizer = pl.LightningModule.optimizers(self)
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        return loss


def test_a_module_with_an_attribute_optimizers_is_guarded():
    callback, _, _ = guarded_fit(CallsItsListOptimizers(), max_steps=4)
    assert callback.decision is None


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_without_a_loss_is_passed_over():
    records = []
    callback, _, _ = guarded_fit(m.SkippingNet(), listener=records.extend, max_steps=20)
    assert [record.loss is None for record in records] == [False, True] * 10
    assert callback.decision is None


def test_a_module_that_steps_its_optimizer_itself_is_let_be():
    callback, _, trainer = guarded_fit(m.ManualNet(), max_steps=20)
    assert (callback.decision, trainer.global_step) == (None, 20)


def test_the_sanity_check_is_not_part_of_the_training():
    records = []
    guarded_fit(m.Net(), listener=records.extend, max_steps=3, num_sanity_val_steps=2)
    assert [record.step for record in records] == [1, 2, 3]


@pytest.mark.filterwarnings(STOPPED)
def test_a_resumed_training_is_guarded_against_what_is_not_finite(tmp_path):
    _, _, trainer = guarded_fit(m.ScriptedNet([0.1]), max_steps=16)
    trainer.save_checkpoint(tmp_path / "at.ckpt")
    callback, _, trainer = guarded_fit(m.ScriptedNet([*[5.0] * 9, float("nan")]), ckpt_path=tmp_path / "at.ckpt")
    assert callback.decision.message == "the loss became nan at step 26"
    # how the loss began is not known any more, so that its rising says nothing
    callback, _, trainer = guarded_fit(m.ScriptedNet([0.1, *[5.0] * 90]), ckpt_path=tmp_path / "at.ckpt", max_steps=60)
    assert (callback.decision, trainer.global_step) == (None, 60)


@pytest.mark.filterwarnings(STOPPED)
def test_a_second_fit_is_judged_anew():
    guard = GuardCallback()
    m.quiet_trainer(guard, max_steps=20).fit(m.NanAtStep7(), *m.loaders())
    assert guard.decision is not None
    m.quiet_trainer(guard, max_steps=20).fit(m.Net(), *m.loaders())
    assert guard.decision is None


def test_of_a_long_training_only_the_losses_still_needed_are_kept():
    callback, _, _ = guarded_fit(m.Net(lr=0.1), max_steps=200)
    assert len(callback.progress()["losses"]) == 6


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
def test_the_settings_are_used():
    losses = [0.7, 500.0]
    assert guarded_fit(m.ScriptedNet(losses), guard=Guard.finite_only(), max_steps=40)[2].global_step == 40
    assert guarded_fit(m.ScriptedNet(losses), guard=Guard(runaway_ratio=1000), max_steps=400)[2].global_step == 18


def test_a_paused_guard_resumes_with_its_history():
    guard, *_ = guarded_fit(m.ScriptedNet([1.0, 0.9, 0.8]), max_steps=5)
    progress = guard.progress()
    assert progress["losses"] == pytest.approx([1.0, 0.9, 0.8, 0.8, 0.8])
    resumed = GuardCallback()
    resumed._reset(0, 5, Guard())
    resumed.resume_from(progress)
    assert resumed.progress() == progress
    listening = GuardCallback(False, listener=print)
    listening.resume_from({})
    assert listening.progress() == {}


def test_to_warn_is_not_to_stop():
    losses = [0.7, *[5.0] * 30, *[float("nan")] * 30]
    callback = GuardCallback(action="warn")
    trainer = m.quiet_trainer(callback, max_steps=60)
    with pytest.warns(UserWarning, match="opttune would stop") as said:
        trainer.fit(m.ScriptedNet(losses), *m.loaders())
    told = [str(one.message) for one in said if "opttune would stop" in str(one.message)]
    assert trainer.global_step == 60
    assert [text.split(":")[0] for text in told] == [
        "opttune would stop the training (blow_up)",
        "opttune would stop the training (non_finite)",
    ]
    assert callback.decision.reason is StopReason.BLOW_UP


@pytest.mark.parametrize(("argument", "value"), [("action", "shout"), ("mode", "best")])
def test_an_unknown_argument_is_refused(argument, value):
    with pytest.raises(InputError, match=f"GuardCallback: {argument} must be one of .*, got '{value}'"):
        GuardCallback(**{argument: value})


@pytest.mark.filterwarnings("ignore:opttune notes that the gradient norm")
def test_a_spike_and_a_jump_of_the_gradients_are_noted_and_stop_nothing():
    class Jumping(m.ScriptedNet):
        def on_after_backward(self):
            if self.global_step == 40:
                for parameter in self.parameters():
                    parameter.grad = m.torch.full_like(parameter, 1e3)

        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + self.loss(batch)

    losses = [2.0] * 10 + [1.0] * 20 + [9.0] + [1.0] * 50
    callback, _, trainer = guarded_fit(Jumping(losses), guard=Guard(watch_grad_norm=True), max_steps=60)
    assert (callback.decision, trainer.global_step) == (None, 60)
    assert "at step 31, above 2 x the first" in callback.alarms[0]
    assert callback.alarms[1].startswith("the gradient norm jumped to")
    assert "at step 41, above 10 x the usual" in callback.alarms[1]


@pytest.mark.filterwarnings(STOPPED)
def test_parameters_that_are_not_finite_stop_it_though_the_loss_hides_it():
    class Hiding(m.Net):
        def __init__(self):
            super().__init__(lr=0.1)
            self.extra = nn.Parameter(m.torch.zeros(1))

        def training_step(self, batch, batch_idx):
            # the gradient of the square root at zero is infinite
            root = m.torch.sqrt(self.extra.abs()) if self.global_step == 5 else 0 * m.torch.nan_to_num(self.extra)
            return self.loss(batch) + 0 * root.nan_to_num().sum() + (root.sum() if self.global_step == 5 else 0)

    guard = Guard(watch_grad_norm=True)
    callback, _, trainer = guarded_fit(Hiding(), guard=guard, max_steps=30)
    assert callback.decision.reason is StopReason.NON_FINITE
    assert callback.decision.message == "the gradients became nan at step 6, and so did parameters"
    assert trainer.global_step == 6


def test_gradients_that_the_module_mends_itself_stop_nothing():
    class Mending(m.Net):
        def on_after_backward(self):
            if self.global_step == 5:
                self.net[0].weight.grad.fill_(float("inf"))

        def on_before_optimizer_step(self, optimizer):
            for parameter in self.parameters():
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)

    callback, _, trainer = guarded_fit(Mending(lr=0.1), guard=Guard(watch_grad_norm=True), max_steps=30)
    assert (callback.decision, trainer.global_step) == (None, 30)


def test_the_rate_at_which_it_died_is_part_of_the_decision():
    with pytest.warns(UserWarning, match="opttune stopped"):
        callback, *_ = guarded_fit(m.NanAtStep7())
    assert callback.decision.lr == pytest.approx(1e-4)


def manual_fit(model, callback=None, steps=60):
    pl.seed_everything(0, verbose=False)
    callback = callback or GuardCallback()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, *so.loaders())
    return callback, trainer


@pytest.mark.parametrize("model", so.MANUAL[:1] + so.MANUAL[2:])
def test_a_healthy_training_under_manual_optimization_is_left_alone(model):
    callback, trainer = manual_fit(model())
    assert callback.decision is None
    assert trainer.global_step >= 60


class RisingGan(so.Gan):
    """What it returns rises fourfold and stays there, as a generator's loss may."""

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        return {"loss": torch.tensor(1.0 + min(3.0, 0.2 * self.global_step))}


class RisingAlone(so.Accumulating):
    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        return torch.tensor(1.0 + min(3.0, 0.2 * self.global_step))


@pytest.mark.parametrize("model", [RisingGan, RisingAlone])
def test_a_loss_that_no_optimizer_need_lower_is_not_judged(model):
    assert manual_fit(model())[0].decision is None


class NanGan(so.Gan):
    def training_step(self, batch, batch_idx):
        super().training_step((batch[0] * (float("nan") if batch_idx == 3 else 1), batch[1]), batch_idx)


class NanAlone(so.Accumulating):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch[0] * (float("nan") if batch_idx >= 3 else 1), batch[1]), batch_idx)


@pytest.mark.parametrize("model", [NanGan, NanAlone])
@pytest.mark.filterwarnings(STOPPED)
def test_what_is_not_finite_ends_a_training_under_manual_optimization(model):
    callback, trainer = manual_fit(model())
    assert callback.decision.reason is StopReason.NON_FINITE
    assert trainer.global_step < 12


class BlownUp(so.Accumulating):
    """One optimizer, at a rate that sends it off after it has begun to fall."""

    def training_step(self, batch, batch_idx):
        if self.global_step == 12:
            self.optimizers().param_groups[0]["lr"] = 100.0
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings(STOPPED)
def test_one_optimizer_that_blows_up_under_manual_optimization_is_stopped():
    callback, trainer = manual_fit(BlownUp(), steps=300)
    assert callback.decision.reason.is_divergence
    assert trainer.global_step < 60
