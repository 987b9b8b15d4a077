import signal

import pytest
import torch
from torch import nn

from opttune import Recipe
from opttune.errors import ModelError, MonitorError
from opttune.guard.rules import Guard
from opttune.recipe import Part
from opttune.space.auto import plan_for
from opttune.training.attempt import Attempt
from opttune.training.inspection import inspect_model
from opttune.training.workload import Workload
from tests.support import models as m

RECIPE = Recipe(Part("adamw", {"lr": 0.01}))


def look(model=m.Net, data=m.loaders, steps=2, monitor="val_loss", **trainer):
    attempt = Attempt(RECIPE, monitor, 3, {"max_steps": 20, "accelerator": "cpu", **trainer})
    return inspect_model(attempt, Workload(model, data), steps)


class Counting(m.Net):
    batches = 0

    def training_step(self, batch, batch_idx):
        Counting.batches += 1
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_look_says_what_a_search_needs_to_know_after_few_steps(steps):
    Counting.batches = 0
    found = look(Counting, steps=steps)
    assert (found.model_name, found.parameters, found.total_steps) == ("Counting", 58, 20)
    assert (found.replaced, found.has_own_optimizer) == ("SGD(lr=0.0001)", True)
    assert Counting.batches == max(1, steps)


def test_a_length_in_epochs_is_counted_in_steps():
    assert look(max_steps=-1, max_epochs=3, accumulate_grad_batches=3).total_steps == 9


def test_frozen_parameters_are_not_counted():
    assert look(m.FrozenNet).parameters == 18


class ThawsLater(m.Net):
    """Frozen at first, but for the output; its own optimizer holds all."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 32), nn.LayerNorm(32), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
        self.net[:4].requires_grad_(False)

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.net.requires_grad_(True)


class LearnedElsewhere(ThawsLater):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        learned = {name: torch.randn(one.shape, generator=generator) for name, one in self.net.state_dict().items()}
        self.net.load_state_dict(learned)


class HeldByNone(ThawsLater):
    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


@pytest.mark.parametrize("model", [ThawsLater, LearnedElsewhere, HeldByNone, ThawsLater()])
def test_weights_that_are_frozen_at_first_count_as_pretrained_unless_they_began_by_chance(model):
    facts = look(model).facts
    plan = plan_for(facts, 1_000)
    if model is ThawsLater:
        assert (facts.trainable_share, facts.has_hidden_matrices, plan.is_from_scratch) == (1.0, True, True)
    else:
        assert facts.trainable_share < 0.05
        assert not plan.is_from_scratch


class Normed(m.Net):
    loads_in = ""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
        self.load("__init__")

    def load(self, hook):
        if hook == self.loads_in:
            learned = {"weight": torch.tensor([0.9, 1.1, 1.0, 1.2]), "bias": torch.tensor([0.1, 0.0, -0.1, 0.3])}
            self.net[0].load_state_dict(learned)

    def setup(self, stage):
        self.load("setup")

    def on_train_start(self):
        self.load("on_train_start")


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("hook", ["__init__", "setup", "on_train_start"])
def test_weights_look_trained_wherever_they_are_loaded_and_not_by_the_first_steps(steps, hook):
    assert look(Normed, steps=steps).facts.has_trained_norms is False
    loading = type("Loading", (Normed,), {"loads_in": hook})
    assert look(loading, steps=steps).facts.has_trained_norms is True
    assert look(m.Net, steps=steps).facts.has_trained_norms is None


def test_norms_that_thaw_later_and_began_by_chance_are_new():
    assert look(ThawsLater, steps=1).facts.has_trained_norms is False


@pytest.mark.parametrize("model", [m.BareNet, type("Broken", (m.Net,), {"configure_optimizers": lambda self: 1 / 0})])
def test_a_model_without_an_optimizer_that_works_is_known(model):
    assert not look(model).has_own_optimizer


def test_a_monitor_that_is_not_logged_is_found_in_time():
    with pytest.raises(MonitorError, match=r"'val_acc' was never logged\. .*Logged: train_loss, val_loss"):
        look(monitor="val_acc")
    assert look(monitor="val_acc", steps=0).total_steps == 20


class Following(m.Net):
    """Names the metric in the configuration of a schedule."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


@pytest.mark.parametrize("model", [m.Net, Following])
def test_a_missing_validation_is_found_in_time(model):
    words = "no validation data, so validation_step did not run and the monitored metric 'val_loss' was never logged"
    with pytest.raises(MonitorError, match=words) as caught:
        look(model, data=m.train_loader)
    assert str(caught.value).endswith("monitor a metric of the training: train_loss.")


class NoNumber(m.Net):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * torch.nan


class NoNumberByHand(m.ManualNet):
    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        return torch.tensor(torch.nan)


def test_a_first_loss_that_is_no_number_is_refused_where_the_guard_would_stop_every_training():
    attempt = Attempt(RECIPE, "val_loss", 3, {"max_steps": 20, "accelerator": "cpu"}, guard=Guard())
    with pytest.raises(
        ModelError, match=r"NoNumber: the loss of the first step is nan, before any update .*--no-guard"
    ):
        inspect_model(attempt, Workload(NoNumber, m.loaders), 2)
    # without a guard it may come, and what a module optimizes by hand need not be its loss
    assert look(NoNumber).total_steps == 20
    assert inspect_model(attempt, Workload(NoNumberByHand, m.loaders), 2).total_steps == 20


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(
    ("model", "data", "trainer", "problem"),
    [
        (m.ManualNet, m.loaders, {"max_steps": -1, "max_epochs": 2}, "Give the length as max_steps"),
        (m.GanNet, m.loaders, {}, "2 optimizers"),
        (m.Net, lambda: (m.stream_loader(), m.val_loader()), {"max_steps": -1, "max_epochs": 2}, "no length"),
        (m.Net, m.loaders, {"max_steps": -1, "max_epochs": -1}, "no end"),
        (m.Net, None, {}, "fails when it is set up for training: MisconfigurationException"),
    ],
)
def test_what_cannot_be_tuned_is_found_in_time(model, data, trainer, problem, steps):
    with pytest.raises(ModelError, match=problem):
        look(model, data, steps, **trainer)


def test_ctrl_c_in_a_look_is_ctrl_c_though_lightning_would_end_the_process():
    class Pressed(m.Net):
        def training_step(self, batch, batch_idx):
            raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            look(Pressed)
    finally:
        signal.signal(signal.SIGINT, usual)


def test_an_error_of_the_users_own_is_told_with_its_place():
    with pytest.raises(
        ModelError, match=r"FailingNet fails when it is set up for training: RuntimeError: a bug .*models\.py:\d+\)\."
    ):
        look(m.FailingNet, steps=5)


class Detached(m.Net):
    def training_step(self, batch, batch_idx):
        return self.loss(batch).detach()


class NeedsItsOwn(m.Net):
    """Fails in the first step of any other optimizer than its own, with a page of words."""

    def on_before_optimizer_step(self, optimizer):
        if not isinstance(optimizer, torch.optim.SGD):
            raise RuntimeError("no kernel\n" * 100)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Detached, r"undetached\. It fails with its own optimizer as well: fix it until Trainer.fit trains it\.$"),
        (NeedsItsOwn, r"With its own optimizer it trains: search other optimizers than adamw \(--space\)\.$"),
    ],
)
def test_a_failure_comes_with_what_is_known_of_its_cause(model, words):
    attempt = Attempt(Recipe(Part("adamw", {"lr": 0.01})), "val_loss", 0, {"max_steps": 4, "accelerator": "cpu"})
    with pytest.raises(ModelError, match=words) as caught:
        inspect_model(attempt, Workload(model, m.loaders), 1)
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)


def test_without_data_the_message_says_where_to_give_them():
    attempt = Attempt(Recipe(Part("adamw", {"lr": 0.01})), "val_loss", 0, {"max_steps": 4, "accelerator": "cpu"})
    with pytest.raises(
        ModelError, match=r"There are no training data: give them \(DATA on the command line, data= in Python\)\.$"
    ):
        inspect_model(attempt, Workload(m.Net, None), 1)


class Mixes(m.Net):
    """Attends by hand, as its classes do not say."""

    def loss(self, batch):
        x, y = batch
        tokens = x[:, :, None] * self.net[0].weight[:1]
        shares = (tokens @ tokens.mT).softmax(-1)
        return nn.functional.cross_entropy(self.net((shares @ tokens)[..., 0]), y)


class CannotBeWatched(Mixes):
    def training_step(self, batch, batch_idx):
        if torch.overrides._get_current_function_mode() is not None:
            raise RuntimeError("a compiler that takes no function mode")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("steps", [0, 2])
def test_what_a_module_is_shows_in_its_first_batch(steps):
    assert plan_for(look(Mixes, steps=steps).facts, 100).words == "a transformer"
    plain = look(m.Net, steps=steps).facts
    assert (
        plan_for(plain, 100).words == "a network of 58 trained parameters without convolutions, attention or recurrence"
    )


@pytest.mark.parametrize("steps", [0, 2])
def test_a_module_that_cannot_be_watched_is_told_by_its_classes(steps):
    assert not look(CannotBeWatched, steps=steps).facts.has_attention


class LogsEachStep(m.Net):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("step_loss", loss)
        self.log("both_loss", loss, on_step=True, on_epoch=True)
        self.log("mean_loss", loss, on_step=False, on_epoch=True)
        self.log("shared_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("shared_loss", self.loss(batch))


@pytest.mark.parametrize(
    ("monitor", "is_of_one_batch"),
    [("step_loss", True), ("both_loss_step", True), ("both_loss", False), ("mean_loss", False), ("shared_loss", False)],
)
def test_a_monitored_metric_of_single_batches_is_told(monitor, is_of_one_batch):
    notes = look(LogsEachStep, monitor=monitor).notes
    assert any(f"{monitor} is logged at each step of the training, so its value" in note for note in notes) is (
        is_of_one_batch
    )


def test_one_batch_of_all_data_is_no_reason_for_a_note():
    def whole():
        return m.DataLoader(m.dataset(), batch_size=m.SAMPLES), m.val_loader()

    assert look(LogsEachStep, whole, monitor="step_loss").notes == ()
