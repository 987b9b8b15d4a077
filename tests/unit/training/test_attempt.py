import copy
import logging
import os
import random
import re
import signal

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from opttune import Guard, Recipe
from opttune.errors import InputError, ModelError, MonitorError
from opttune.outcome import StopReason
from opttune.recipe import Part
from opttune.training.attempt import Attempt, run_attempt
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support.listeners import RecordingListener

RECIPE = Recipe(Part("adamw", {"lr": 0.01}), Part("cosine", {"warmup_fraction": 0.1}), gradient_clip_norm=1.0)


def run(model=m.Net, data=m.loaders, recipe=RECIPE, listener=None, **fields):
    trainer = {"max_steps": 20, "accelerator": "cpu", **fields.pop("trainer", {})}
    attempt = Attempt(recipe, fields.pop("monitor", "val_loss"), fields.pop("seed", 3), trainer, **fields)
    return run_attempt(attempt, Workload(model, data), listener or RecordingListener())


def test_a_full_length_gives_its_value_and_what_was_replaced():
    outcome = run()
    assert (outcome.reason, outcome.steps, outcome.total_steps) == (StopReason.COMPLETED, 20, 20)
    assert (outcome.message, outcome.traceback, outcome.replaced) == ("", "", "SGD(lr=0.0001)")
    assert 0 < outcome.value < 1
    assert outcome.seconds > outcome.step_seconds > 0


def test_the_listener_receives_every_step_and_every_validation():
    listener = RecordingListener()
    outcome = run(listener=listener)
    assert [record.step for record in listener.records] == list(range(1, 21))
    assert listener.records[0].lr == pytest.approx(0.005)
    validations = [(step, values["val_loss"]) for step, values in listener.reports if "val_loss" in values]
    assert [step for step, _ in validations] == [8, 16, 20]
    assert validations[-1][1] == outcome.value


LOADER = m.DataLoader(m.dataset(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "data",
    [m.loaders, m.Data, m.Data(), lambda: m.Data(), m.loaders(), (LOADER, m.val_loader())],
    ids=["factory of loaders", "class", "instance", "factory", "pair", "own generator"],
)
def test_the_same_seed_gives_exactly_the_same_value(data):
    first, second, other = run(data=data), run(data=data), run(data=data, seed=4)
    assert first.value == second.value != other.value


@pytest.mark.parametrize("model", [m.Net, m.OtherNet, lambda: m.Net(), m.ScheduledNet, m.LateNet, m.BareNet])
def test_models_of_every_kind_are_trained(model):
    assert run(model).reason is StopReason.COMPLETED


def test_an_instance_is_copied_and_stays_as_it_is():
    model = m.Net()
    before = copy.deepcopy(model.state_dict())
    first, second = run(model), run(model)
    assert first.value == second.value
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert "configure_optimizers" not in vars(model)


def test_the_baseline_keeps_the_modules_own_optimizer():
    listener = RecordingListener()
    outcome = run(recipe=None, listener=listener)
    assert (outcome.reason, outcome.replaced) == (StopReason.COMPLETED, "")
    assert {record.lr for record in listener.records} == {1e-4}


def test_everything_around_is_put_back(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    names = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
    around = [
        lambda: (random.getstate(), torch.get_rng_state().tolist()),
        lambda: dict(os.environ),
        lambda: signal.getsignal(signal.SIGINT),
        lambda: signal.getsignal(signal.SIGTERM),
        lambda: [logging.getLogger(name).level for name in names],
    ]
    before = [look() for look in around]
    for model in (m.Net, m.OtherNet, m.FailingNet, m.NanAtStep7, interrupted_net()):
        run(model, guard=Guard())
        assert [look() for look in around] == before
    with pytest.raises(MonitorError):
        run(monitor="never_logged")
    assert [look() for look in around] == before


def interrupted_net():
    return type("Interrupted", (m.FailingNet,), {"error": KeyboardInterrupt()})


def test_an_error_of_the_users_own_becomes_an_outcome_with_its_traceback():
    outcome = run(m.FailingNet)
    assert (outcome.reason, outcome.value, outcome.steps) == (StopReason.FAILED, None, 2)
    assert re.fullmatch(r"RuntimeError: a bug of the user's own \(.*models\.py:\d+\)", outcome.message)
    assert "in training_step" in outcome.traceback
    assert "models.py" in outcome.traceback


def test_an_error_while_the_model_is_made_becomes_an_outcome():
    def broken():
        raise OSError("no weights")

    outcome = run(broken)
    assert (outcome.reason, outcome.steps) == (StopReason.FAILED, 0)
    # with the line of the user's code
    assert re.fullmatch(r"OSError: no weights \(.*\.py:\d+\)", outcome.message)
    assert "in broken" in outcome.traceback


def test_ctrl_c_becomes_an_interrupted_outcome():
    outcome = run(interrupted_net())
    assert (outcome.reason, outcome.value, outcome.steps) == (StopReason.INTERRUPTED, None, 2)
    assert outcome.message == "interrupted at step 2"


def test_the_guard_ends_an_attempt_quietly():
    outcome = run(m.NanAtStep7, guard=Guard())
    assert (outcome.reason, outcome.value, outcome.steps) == (StopReason.NON_FINITE, None, 7)
    assert outcome.message == "the loss became nan at step 7"


def test_a_monitor_that_is_nan_at_the_end_is_told():
    class NanValidation(m.Net):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float("nan"))

    outcome = run(NanValidation, guard=Guard())
    assert (outcome.reason, outcome.message) == (StopReason.NON_FINITE, "val_loss was nan at the end")


def test_a_monitor_that_was_never_logged_is_an_error_that_lists_what_was():
    with pytest.raises(MonitorError, match=r"'val_acc' was never logged\. .*Logged: train_loss, val_loss\."):
        run(monitor="val_acc")


def test_the_users_early_stopping_gives_a_value_that_counts_and_each_attempt_its_own():
    stopping = pl.callbacks.EarlyStopping("val_loss", patience=1, min_delta=9.0)
    trainer = {"max_epochs": 5, "max_steps": -1, "callbacks": [stopping]}
    first, second = run(trainer=trainer), run(trainer=trainer)
    assert (first.reason, first.steps, first.total_steps) == (StopReason.EARLY_STOPPED, 16, 40)
    assert (first.message, stopping.wait_count) == ("ended after 16 of 40 steps", 0)
    assert first.value == second.value


def test_a_single_callback_of_the_users_is_taken_too():
    stopping = pl.callbacks.EarlyStopping("val_loss", patience=1, min_delta=9.0)
    outcome = run(trainer={"max_epochs": 5, "max_steps": -1, "callbacks": stopping})
    assert outcome.reason is StopReason.EARLY_STOPPED


def test_the_users_checkpoints_progress_bar_and_logger_work(tmp_path):
    callbacks = [pl.callbacks.ModelCheckpoint(tmp_path / "kept"), pl.callbacks.TQDMProgressBar()]
    logger = pl.loggers.CSVLogger(tmp_path)
    outcome = run(trainer={"callbacks": callbacks, "logger": logger, "log_every_n_steps": 1})
    assert outcome.reason is StopReason.COMPLETED
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert (tmp_path / "lightning_logs/version_0/metrics.csv").exists()


def test_a_checkpoint_holds_weights_and_the_optimizers_state(tmp_path):
    path = tmp_path / "new" / "end.ckpt"
    outcome = run(checkpoint=path)
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 20
    assert len(saved["optimizer_states"][0]["state"]) == 4
    assert saved["lr_schedulers"][0]["last_epoch"] == 20
    model = m.Net()
    model.load_state_dict(saved["state_dict"])
    (found,) = m.quiet_trainer().validate(model, m.val_loader(), verbose=False)
    assert found["val_loss"] == outcome.value


@pytest.mark.parametrize("model", [m.NanAtStep7, m.FailingNet])
def test_without_a_value_there_is_no_checkpoint(tmp_path, model):
    run(model, guard=Guard(), checkpoint=tmp_path / "end.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("trainer", "problem"),
    [
        ({"max_step": 3}, r"the Trainer does not take \{.*'max_step': 3.*\}: .*unexpected keyword argument 'max_step'"),
        ({"accelerator": "abacus"}, "the Trainer does not take .*abacus"),
        ({"max_epochs": -7}, "the Trainer does not take .*-7"),
    ],
)
def test_an_argument_that_the_trainer_does_not_take_is_refused(trainer, problem):
    with pytest.raises(InputError, match=problem):
        run(trainer=trainer)


def test_a_precision_that_the_trainer_does_not_take_is_refused():
    with pytest.raises(InputError, match=r"the Trainer does not take \{.*'precision': 'tiny'"):
        run(recipe=Recipe(Part("adamw", {"lr": 0.01}), precision="tiny"))


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "64-true"])
def test_a_precision_of_the_recipe_is_used(precision):
    assert run(recipe=Recipe(Part("adamw", {"lr": 0.01}), precision=precision)).reason is StopReason.COMPLETED


def test_a_model_that_cannot_be_tuned_is_refused():
    with pytest.raises(ModelError, match="2 optimizers"):
        run(m.GanNet)
    with pytest.raises(ModelError, match="without arguments"):
        run(type("Wide", (m.Net,), {"__init__": lambda self, width: None}))


class BeginsAt(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        assert trainer.global_step == (trainer.ckpt_path is not None) * 10


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(
    "left", ["hpc_ckpt_1.ckpt", "on_exception.ckpt", "lightning_logs/opttune/checkpoints/last.ckpt"]
)
def test_no_checkpoint_that_lies_about_is_loaded(left, tmp_path, monkeypatch):
    for name, value in {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    foreign = m.quiet_trainer(max_steps=4)
    foreign.fit(m.Net(), *m.loaders())
    foreign.save_checkpoint(tmp_path / left)
    callbacks = [OnExceptionCheckpoint(tmp_path), ModelCheckpoint(save_last=True), BeginsAt()]
    trainer = {"default_root_dir": str(tmp_path), "callbacks": callbacks}
    paused = run(trainer=trainer, until_step=10, checkpoint=tmp_path / "paused.ckpt")
    assert paused.reason is StopReason.PAUSED, paused.message
    assert run(trainer=trainer, resume_from=tmp_path / "paused.ckpt").reason is StopReason.COMPLETED
