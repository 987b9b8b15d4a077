"""Modules as they are in the wild: late metrics, losses that rise, errors that say that a loss is no number."""

import lightning.pytorch as pl
import optuna
import pytest
import torch
from torch.distributions import Categorical

from opttune import OpttuneSampler
from opttune.errors import MonitorError
from opttune.space.sample import sample_recipe
from tests.support.search_models import Classifier, loaders
from tests.support.searches import make_space, run_search

LOW_TO_HIGH = "optimizer: {sgd: {lr: {choices: [1e6, 1e7, 0.1], prior: 1e6, source: test}}}\nschedule: {constant: {}}"
TWO = """
optimizer:
  adamw: {lr: {low: 1e-3, high: 1e-1, log: true, prior: 1e-2, source: test}}
  sgd: {lr: {low: 1e-3, high: 1e-1, log: true, prior: 1e-2, source: test}}
schedule: {constant: {}}
"""


class Late(Classifier):
    """A score that is not defined at first, one that is logged in few validations, and one that is many numbers."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("val_score", torch.tensor(self.global_step / 40 if self.global_step >= 20 else float("nan")))
        if self.global_step >= 40:
            self.score(batch, "val")

    def score(self, batch, stage):
        self.log(f"{stage}_fid", torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def on_validation_epoch_end(self):
        self.trainer.callback_metrics["confusion"] = torch.eye(3)


@pytest.mark.parametrize("monitor", ["val_score", "val_fid"])
def test_a_metric_that_comes_late_is_searched(tmp_path, monitor) -> None:
    result = run_search(tmp_path, Late, data=loaders(), monitor=monitor, max_steps=40, budget=3)
    assert result.best_value is not None
    assert result.baseline_value is not None
    assert not set(result.trials.reason) & {"non_finite", "failed"}


def test_a_metric_that_no_code_names_is_refused_before_the_search(tmp_path) -> None:
    with pytest.raises(MonitorError, match="never logged"):
        run_search(tmp_path, Late, data=loaders(), monitor="val_fdi", out_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(MonitorError, match=r"is not a single number, got a tensor of shape \(3, 3\)"):
        run_search(tmp_path, Late, data=loaders(), monitor="confusion")


class Rising(Classifier):
    """Its loss rises by design, whatever the rate."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) + min(self.global_step, 20)


def test_a_loss_that_rises_by_design_ends_with_a_recipe_and_a_warning(tmp_path) -> None:
    result = run_search(tmp_path, Rising, data=loaders(), max_steps=60, budget=4, guard=True)
    assert result.best_recipe is not None
    assert result.baseline_value is not None
    (warning,) = [one for one in result.warnings if "Guard.finite_only()" in one]
    assert "rule blow_up ended all of the first" in warning


class Raises(Classifier):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if not torch.isfinite(loss):
            raise ValueError("bad loss")
        return loss


class Policy(Classifier):
    def training_step(self, batch, batch_idx):
        return -Categorical(logits=self.net(batch[0])).log_prob(batch[1]).mean()


@pytest.mark.parametrize("model", [Raises, Policy])
def test_an_error_of_a_training_that_has_diverged_is_a_divergence(tmp_path, model: type[pl.LightningModule]) -> None:
    result = run_search(tmp_path, model, data=loaders(), space=make_space(LOW_TO_HIGH), max_steps=40, budget=3)
    assert "failed" not in set(result.trials.reason)
    assert "non_finite" in set(result.trials.reason) or "blow_up" in set(result.trials.reason)
    assert result.best_recipe is not None


def test_an_optimizer_that_was_left_out_is_proposed_no_more() -> None:
    space = make_space(TWO)
    sampler = OpttuneSampler(space, seed=0)
    sampler.leave_out("adamw")
    study = optuna.create_study(sampler=sampler)
    for _ in range(6):
        trial = study.ask()
        assert sample_recipe(space, trial).optimizer.name == "sgd"
        study.tell(trial, 0.5)
