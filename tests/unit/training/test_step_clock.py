"""The mean time of a step, on a clock that the module moves."""

from typing import Any

import lightning.pytorch as pl
import pytest

from opttune.training import step_clock
from opttune.training.step_clock import StepClock
from tests.support import models as m


class Hand:
    """What `time.perf_counter` returns, moved by hand."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed(m.Net):
    """The first step takes 1,000, each other 2, every fifth 7; a validation takes 100, the end of an epoch 50."""

    def __init__(self, hand: Hand) -> None:
        super().__init__()
        self.hand = hand

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        step = self.trainer.global_step + 1
        self.hand.now += 1000 if step == 1 else 7 if step % 5 == 0 else 2
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.hand.now += 100
        return super().validation_step(batch, batch_idx)


class SlowEnd(pl.Callback):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.hand.now += 50 * (trainer.global_step >= trainer.max_steps)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.hand.now += 50


def timed(monkeypatch: pytest.MonkeyPatch, steps: int, **trainer: Any) -> float | None:
    hand, clock = Hand(), StepClock()
    monkeypatch.setattr(step_clock, "time", hand)
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    fit = pl.Trainer(**settings, enable_model_summary=False, max_steps=steps, callbacks=[clock, SlowEnd()], **trainer)
    fit.fit(Timed(hand), *m.loaders())
    assert fit.global_step == steps
    return clock.step_seconds


def test_it_is_the_mean_of_all_steps_but_the_first_without_validations_and_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # steps 2 to 21: 16 of 2 and 4 of 7
    assert timed(monkeypatch, 21) == pytest.approx(60 / 20)
    assert timed(monkeypatch, 21, val_check_interval=2) == pytest.approx(60 / 20)


def test_a_single_step_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(monkeypatch, 1) is None
