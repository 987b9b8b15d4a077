import lightning.pytorch as pl
import pytest
import torch

from opttune import Guard, Recipe
from opttune.errors import InputError
from opttune.outcome import StopReason
from opttune.recipe import Part
from tests.support import models as m
from tests.support import pauses as p

LENGTHS = [
    {"max_steps": 20},
    {"max_epochs": 3},
    {"max_epochs": 3, "check_val_every_n_epoch": 2},
    {"max_epochs": 3, "val_check_interval": 0.5},
    {"max_steps": 20, "val_check_interval": 3},
    {"max_steps": 20, "val_check_interval": 5, "check_val_every_n_epoch": None},
    {"max_epochs": 3, "limit_train_batches": 6},
    {"max_steps": 20, "limit_train_batches": 6},
    {"max_epochs": 3, "reload_dataloaders_every_n_epochs": 1},
    {"max_epochs": 3, "reload_dataloaders_every_n_epochs": 2},
    {"max_epochs": 3, "min_epochs": 2},
    {"max_steps": 20, "num_sanity_val_steps": 2},
]
# within an epoch of 8 batches, and at its end
RUNGS = [(3, 8), (10, 16)]


def slowly(*all_rungs):
    """Rungs that are tried where there is time: each costs a training in several parts."""
    return [pytest.param(rungs, marks=pytest.mark.slow) for rungs in all_rungs]


@pytest.fixture(scope="module", params=LENGTHS, ids=str)
def in_one_go(request, tmp_path_factory):
    """Each length, and the training of that length without a pause."""
    return request.param, p.train(tmp_path_factory.mktemp("whole") / "whole.ckpt", trainer=request.param)


@pytest.mark.parametrize("rungs", [*RUNGS, *slowly((8, 12), (5, 6, 7))], ids=str)
def test_a_training_paused_at_rungs_is_the_uninterrupted_one(tmp_path, in_one_go, rungs):
    length, whole = in_one_go
    paused = p.train(tmp_path / "paused.ckpt", rungs, trainer=length)
    assert [outcome.reason for outcome in paused.outcomes] == [*[StopReason.PAUSED] * len(rungs), "completed"]
    assert [outcome.steps for outcome in paused.outcomes] == [*rungs, whole.end.steps]
    assert {outcome.total_steps for outcome in paused.outcomes} == {whole.end.steps}
    p.assert_equal(whole, paused)


@pytest.mark.parametrize(("namespace", "model"), p.NAMESPACES)
@pytest.mark.parametrize("batches", [2, 3])
def test_accumulated_batches_go_into_the_same_steps(tmp_path, namespace, model, batches):
    # epochs of 8 batches: with 3 to a step the last step of an epoch has two
    recipe = Recipe(p.RECIPE.optimizer, p.RECIPE.schedule, accumulate_grad_batches=batches)
    p.assert_equal(*p.both(tmp_path, (2, 3, 5), model=model, recipe=recipe, trainer={"max_epochs": 3}))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_resumes_exactly(tmp_path, precision):
    p.assert_equal(*p.both(tmp_path, (3, 7), trainer={"max_steps": 12, "precision": precision}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a loss is scaled on an accelerator alone")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "32-true"])
def test_on_an_accelerator_the_scale_and_the_random_state_are_resumed_too(tmp_path, precision):
    trainer = {"max_steps": 20, "precision": precision, "accelerator": "cuda"}
    whole, paused = p.both(tmp_path, (3, 7), trainer=trainer, guard=Guard())
    p.assert_equal(whole, paused)
    if precision == "16-mixed":
        p.assert_same(paused.saved["MixedPrecision"], whole.saved["MixedPrecision"], "scaler")


@pytest.mark.parametrize("length", [{"max_epochs": 6}, {"max_steps": 48}, {"max_epochs": 6, "max_steps": 45}], ids=str)
@pytest.mark.parametrize("rungs", [(5, 17), *slowly((8, 16), (3, 24))], ids=str)
def test_a_plateau_schedule_drops_where_it_did(tmp_path, rungs, length):
    plateau = Part("plateau", {"patience_checks": 0, "improvement_fraction": 0.5})
    recipe = Recipe(p.RECIPE.optimizer, plateau)
    whole, paused = p.both(tmp_path, rungs, recipe=recipe, trainer=length)
    assert len({record.lr for record in whole.listener.records}) > 1
    p.assert_equal(whole, paused)


@pytest.mark.parametrize("rungs", [(3, 17), *slowly((5, 8), (10, 24))], ids=str)
@pytest.mark.parametrize("checks", [{}, {"val_check_interval": 5, "check_val_every_n_epoch": None}], ids=str)
def test_a_plateau_after_a_warmup_drops_where_it_did(tmp_path, rungs, checks):
    options = {"patience_checks": 0, "improvement_fraction": 0.5, "decay_factor": 0.5, "warmup_fraction": 0.2}
    recipe = Recipe(p.RECIPE.optimizer, Part("plateau", options))
    whole, paused = p.both(tmp_path, rungs, recipe=recipe, trainer={"max_steps": 40, **checks})
    rates = [record.lr for record in whole.listener.records]
    assert rates[:8] == pytest.approx([0.03 * step / 8 for step in range(1, 9)])
    assert rates[-1] < 0.03
    p.assert_equal(whole, paused)


def test_a_modules_own_optimizer_and_schedule_are_resumed_too(tmp_path):
    class Own(p._Dropping, m.ScheduledNet):
        pass

    whole, paused = p.both(tmp_path, (3, 8), model=Own, recipe=None, trainer={"max_epochs": 3})
    assert len({record.lr for record in whole.listener.records}) == 3
    p.assert_equal(whole, paused)


def test_the_value_of_a_pause_is_that_of_the_saved_weights(tmp_path):
    paused = p.train(tmp_path / "paused.ckpt", (3,)).outcomes[0]
    assert (paused.reason, paused.steps, paused.total_steps) == (StopReason.PAUSED, 3, 20)
    assert paused.message == "paused after 3 of 20 steps"
    assert paused.seconds > 0
    first = p.run(tmp_path / "only.ckpt", until_step=3)
    assert first.value == paused.value
    model = p.Net()
    model.load_state_dict(torch.load(tmp_path / "only.ckpt", weights_only=True)["state_dict"])
    (found,) = m.quiet_trainer().validate(model, m.val_loader(), verbose=False)
    assert found["val_loss"] == paused.value


@pytest.mark.parametrize("until_step", [20, 99])
def test_a_rung_at_or_beyond_the_full_length_is_its_end(tmp_path, until_step):
    assert p.run(tmp_path / "end.ckpt", until_step=until_step).reason is StopReason.COMPLETED


def test_a_pause_reports_a_validation_and_each_step_once(tmp_path):
    paused = p.train(tmp_path / "paused.ckpt", (3, 8))
    assert [record.step for record in paused.listener.records] == list(range(1, 21))
    assert [step for step, values in paused.listener.reports if "val_loss" in values] == [3, 8, 16, 20]
    assert list(tmp_path.iterdir()) == [tmp_path / "paused.ckpt"]


def test_without_a_validation_the_value_is_the_trainings(tmp_path):
    trainer = {"max_steps": 20, "limit_val_batches": 0}
    whole = p.run(tmp_path / "whole.ckpt", trainer=trainer, monitor="train_loss")
    assert p.run(tmp_path / "paused.ckpt", trainer=trainer, monitor="train_loss", until_step=3).steps == 3
    end = p.run(tmp_path / "end.ckpt", trainer=trainer, monitor="train_loss", resume_from=tmp_path / "paused.ckpt")
    assert (end.reason, end.value) == (whole.reason, whole.value)


class Objects(p.Net):
    """Its hyperparameters need more than tensors and plain values."""

    def __init__(self):
        super().__init__()
        self.save_hyperparameters({"schedule": Part("cosine"), "width": 8})


def test_hyperparameters_of_any_class_are_loaded(tmp_path):
    p.assert_equal(*p.both(tmp_path, (3,), model=Objects))


@pytest.mark.parametrize("rungs", [(3, 8), (8, 16), *slowly((5, 12), (3, 16))], ids=str)
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("patience", [1, 2])
def test_the_users_early_stopping_stops_where_it_would_have(tmp_path, patience, every, rungs):
    stopping = pl.callbacks.EarlyStopping("val_loss", patience=patience, min_delta=9.0)
    trainer = {"max_epochs": 9, "callbacks": [stopping], "check_val_every_n_epoch": every}
    whole, paused = p.both(tmp_path, rungs, trainer=trainer)
    assert whole.end.reason is StopReason.EARLY_STOPPED
    p.assert_equal(whole, paused)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_users_checkpoints_keep_the_same_best(tmp_path):
    def trainer(folder):
        return {"max_epochs": 3, "callbacks": [pl.callbacks.ModelCheckpoint(tmp_path / folder, "best", "val_loss")]}

    whole = p.train(tmp_path / "whole.ckpt", trainer=trainer("whole"))
    paused = p.train(tmp_path / "paused.ckpt", (3, 8, 16), trainer=trainer("paused"))
    (one,), (other,) = (
        [state for name, state in story.saved["callbacks"].items() if "ModelCheckpoint" in name]
        for story in (whole, paused)
    )
    assert one["best_model_score"] == other["best_model_score"]
    assert paused.seen == whole.seen


@pytest.mark.skipif(not hasattr(pl.callbacks, "WeightAveraging"), reason="since Lightning 2.6")
@pytest.mark.parametrize("rungs", [(3, 7), (8,)], ids=str)
def test_averaged_weights_continue_to_be_averaged(tmp_path, rungs):
    p.assert_equal(*p.both(tmp_path, rungs, trainer={"max_epochs": 2, "callbacks": [pl.callbacks.WeightAveraging()]}))


class Rising(p.Net):
    """The loss jumps after the fifth step."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return 0 * loss + (1.0 if self.trainer.global_step < 5 else 2.0)


class Breaking(p.Net):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * (float("nan") if self.trainer.global_step >= 9 else 1)


@pytest.mark.parametrize("rungs", [(6,), (8, 11), (9, 12)], ids=str)
@pytest.mark.parametrize(("model", "reason"), [(Rising, "blow_up"), (Breaking, "non_finite")])
def test_the_guard_resumes_with_its_history(tmp_path, model, reason, rungs):
    how = {"model": model, "guard": Guard(), "trainer": {"max_steps": 100}}
    whole = p.train(tmp_path / "whole.ckpt", **how)
    paused = p.train(tmp_path / "paused.ckpt", rungs, **how)
    assert whole.end.reason == paused.end.reason == reason
    assert (paused.end.steps, paused.end.message) == (whole.end.steps, whole.end.message)


def test_the_guards_verdict_at_a_rung_wins(tmp_path):
    outcome = p.run(tmp_path / "rung.ckpt", Breaking, until_step=10, guard=Guard())
    assert (outcome.reason, outcome.value, outcome.steps) == (StopReason.NON_FINITE, None, 10)
    assert list(tmp_path.iterdir()) == []


class NanValidation(p.Net):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", float("nan"))


def test_a_value_that_is_nan_at_a_rung_says_nothing_and_at_the_end_is_bad(tmp_path):
    path = tmp_path / "rung.ckpt"
    outcome = p.run(path, NanValidation, until_step=3)
    assert (outcome.reason, outcome.value) == (StopReason.PAUSED, None)
    assert "val_loss was nan there" in outcome.message
    end = p.run(tmp_path / "end.ckpt", NanValidation, resume_from=path)
    assert (end.reason, end.message) == (StopReason.NON_FINITE, "val_loss was nan at the end")


def test_what_fails_at_a_rung_leaves_the_rung_before_as_it_was(tmp_path):
    class FailingValidation(p.Net):
        def validation_step(self, batch, batch_idx):
            if self.global_step == 7:
                raise KeyboardInterrupt
            super().validation_step(batch, batch_idx)

    path = tmp_path / "rung.ckpt"
    p.run(path, FailingValidation, until_step=3)
    before = path.read_bytes()
    outcome = p.run(path, FailingValidation, until_step=7, resume_from=path)
    assert (outcome.reason, outcome.steps) == (StopReason.INTERRUPTED, 7)
    assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], before)


@pytest.mark.parametrize("until_step", [2, 3])
def test_a_rung_that_lies_behind_is_refused(tmp_path, until_step):
    path = tmp_path / "rung.ckpt"
    p.run(path, until_step=3)
    with pytest.raises(InputError, match=f"until_step must be greater than the steps done, got {until_step} after 3"):
        p.run(path, until_step=until_step, resume_from=path)


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the checkpoint to resume from is missing: .*none\.ckpt"):
        p.run(tmp_path / "end.ckpt", resume_from=tmp_path / "none.ckpt")


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    p.run(tmp_path / "end.ckpt")
    with pytest.raises(InputError, match="got a checkpoint of another kind"):
        p.run(tmp_path / "more.ckpt", resume_from=tmp_path / "end.ckpt")
