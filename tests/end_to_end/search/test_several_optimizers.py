"""Modules with several optimizers, under manual optimization or with an optimizer of their own, at every door."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
import pytest
import pytorch_lightning
import torch

import opttune
from opttune import Recipe
from opttune.errors import ModelError
from opttune.storages.open_storage import quiet_optuna
from tests.support import pauses
from tests.support import several_optimizers as so
from tests.support.searches import run_search
from tests.support.several_optimizers import EVERY, data_of, optimizers_of, steps_of

UNMOVED = {"optimizer": "own"}
MOVED = {"optimizer": {"name": "own", "lr_factor": 0.5}}
OWN_ON_A_CURVE = {
    "optimizer": {"name": "own", "lr_factor": 0.5},
    "schedule": {"name": "linear", "warmup_fraction": 0.2},
}
REPLACED = {"optimizer": {"name": "adamw", "lr": 0.003}, "schedule": {"name": "cosine", "warmup_fraction": 0.1}}
ONE_REPLACED = {
    "optimizers": [{"name": "own", "lr_factor": 2.0}, {"name": "nadamw", "lr": 0.003}],
    "schedules": ["own", {"name": "cosine", "warmup_fraction": 0.1}],
}
# on the curve the rates are moved as well
KINDS = {"unmoved": UNMOVED, "own_on_a_curve": OWN_ON_A_CURVE, "replaced": REPLACED, "one_replaced": ONE_REPLACED}
SEED = 3

each_module = pytest.mark.parametrize("model", EVERY, ids=lambda model: model.__name__)
each_recipe = pytest.mark.parametrize("kind", KINDS)


def recipe_of(kind: str, model: type) -> Recipe:
    if kind == "one_replaced" and optimizers_of(model) == 1:
        pytest.skip("it has one optimizer")
    return Recipe.from_dict(KINDS[kind])


def fit(model: type, *callbacks: Any, **settings: Any) -> Any:
    """Train as a user does."""
    namespace = pytorch_lightning if model is so.OtherGan else pl
    namespace.seed_everything(SEED, workers=True, verbose=False)
    made, data = model(), data_of(model)
    trainer = namespace.Trainer(
        accelerator="cpu", max_steps=steps_of(model), callbacks=list(callbacks), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        **settings,
    )  # fmt: skip
    trainer.fit(made, *(data() if data else ()))
    return trainer


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return dict(trainer.lightning_module.state_dict())


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@each_recipe
@each_module
def test_a_training_paused_at_two_rungs_ends_bit_for_bit_like_the_uninterrupted_one_and_that_of_a_recipe_file(
    tmp_path: Path, model: type, kind: str
) -> None:
    steps = steps_of(model)
    how = {
        "recipe": recipe_of(kind, model), "model": model, "data": data_of(model),
        "trainer": {"accelerator": "cpu", "max_steps": steps},
    }  # fmt: skip
    # a replay buffer is sampled as an epoch begins, and is another one later in it
    rungs = [steps // 6, steps // 2]
    whole, paused = pauses.both(tmp_path, rungs, **how)

    assert [str(outcome.reason) for outcome in paused.outcomes] == ["paused", "paused", "completed"]
    assert whole.end.message == ""
    assert whole.end.steps >= steps
    pauses.assert_equal(whole, paused)

    file = opttune.RecipeCallback(how["recipe"])
    trainer = fit(model, file)
    assert trainer.callback_metrics["val_loss"].item() == whole.end.value
    assert_same_weights(weights(trainer), whole.saved["state_dict"])


@each_module
def test_own_with_nothing_moved_is_plain_lightning(tmp_path: Path, model: type) -> None:
    plain, kept = fit(model), fit(model, opttune.RecipeCallback(UNMOVED))
    assert_same_weights(weights(plain), weights(kept))
    assert plain.global_step == kept.global_step
    for one, other in zip(plain.optimizers, kept.optimizers, strict=True):
        pauses.assert_same(one.state_dict(), other.state_dict(), type(one).__name__)


@each_module
def test_no_recipe_at_all_is_the_same_training_as_a_trial_of_own(tmp_path: Path, model: type) -> None:
    story = pauses.train(
        tmp_path / "end.ckpt", model=model, data=data_of(model), recipe=None,
        trainer={"accelerator": "cpu", "max_steps": steps_of(model)},
    )  # fmt: skip
    assert_same_weights(story.saved["state_dict"], weights(fit(model)))


@pytest.mark.slow
@each_module
def test_a_search_ends_no_worse_than_the_baseline_and_its_recipe_gives_its_value(tmp_path: Path, model: type) -> None:
    result = run_search(
        tmp_path, model, data=data_of(model), space="auto", max_steps=steps_of(model), budget=4, seed=SEED,
        trainer={"accelerator": "cpu"},
    )  # fmt: skip
    ended = result.trials[result.trials.state == "complete"]
    plain = fit(model)
    baseline_trial = fit(model, opttune.RecipeCallback(UNMOVED)).callback_metrics["val_loss"].item()

    assert result.baseline_value == baseline_trial
    assert result.best_value <= result.baseline_value
    assert set(result.trials.state) <= {"complete", "pruned"}, result.trials
    # the baseline is one of the trials
    assert len(ended) >= 2
    assert_same_weights(weights(plain), weights(fit(model, opttune.RecipeCallback(UNMOVED))))
    again = fit(model, opttune.RecipeCallback(tmp_path / "out" / "best_recipe.yaml"))
    assert again.callback_metrics["val_loss"].item() == result.best_value


@each_module
def test_a_users_own_study_trains_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: type) -> None:
    monkeypatch.chdir(tmp_path)
    kept = []

    def objective(trial: optuna.Trial) -> float:
        callback = opttune.TrialCallback(trial, space="auto", tracking=False)
        kept.append((callback, fit(model, callback)))
        return callback.result()

    with quiet_optuna():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(objective, n_trials=3)
    assert [trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials] == [True] * 3
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert done
    for trial in done:
        again = fit(model, opttune.RecipeCallback(kept[trial.number][0].recipe))
        assert again.callback_metrics["val_loss"].item() == trial.value
        assert_same_weights(weights(again), weights(kept[trial.number][1]))


class PastTheTrainer(so.Accumulating):
    """It steps torch's optimizer, of which the Trainer knows nothing."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        self.manual_backward(torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))
        optimizer.step()


@pytest.mark.parametrize("recipe", [UNMOVED, MOVED, REPLACED])
def test_steps_that_the_trainer_does_not_count_are_refused_since_nothing_would_end(recipe: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="PastTheTrainer steps its optimizers past the Trainer, which counts no step"):
        fit(PastTheTrainer, opttune.RecipeCallback(recipe))


def test_a_search_refuses_them_before_it_spends_anything(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="PastTheTrainer steps its optimizers past the Trainer"):
        run_search(tmp_path, PastTheTrainer, data=so.loaders, space="auto", max_steps=20, budget=3)


def test_a_length_in_epochs_is_refused_under_manual_optimization(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Gan uses manual optimization, .* Give the length as max_steps"):
        run_search(tmp_path, so.Gan, data=so.loaders, space="auto", max_steps=None, max_epochs=2, budget=3)


def test_a_warmup_before_a_plateau_ends_at_the_peak_for_an_optimizer_that_steps_now_and_then(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(
        {"optimizer": {"name": "adamw", "lr": 0.004}, "schedule": {"name": "plateau", "warmup_fraction": 0.2}}
    )
    rates = [group["lr"] for one in fit(so.ActorCritic, opttune.RecipeCallback(recipe)).optimizers
             for group in one.param_groups]  # fmt: skip
    assert set(rates) == {0.004}
    how = {"recipe": recipe, "model": so.ActorCritic, "data": so.loaders}
    pauses.assert_equal(*pauses.both(tmp_path, [7, 18], **how, trainer={"accelerator": "cpu", "max_steps": 43}))


class TensorRate(so.TwoRates):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=torch.tensor(0.01))


def test_a_rate_that_is_a_tensor_follows_a_curve_over_pauses(tmp_path: Path) -> None:
    how = {"recipe": Recipe.from_dict(OWN_ON_A_CURVE), "model": TensorRate, "data": so.loaders}
    pauses.assert_equal(*pauses.both(tmp_path, [7, 18], **how, trainer={"accelerator": "cpu", "max_steps": 40}))
