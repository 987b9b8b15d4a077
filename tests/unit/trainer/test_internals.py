from typing import Any

import pytest

from opttune.trainer.internals import (
    is_mid_epoch,
    limit_steps,
    reload_epochs,
    set_reload_epochs,
    validate_within_fit,
    without_minimums,
)
from tests.support import models as m


class After(m.AnyCallback):
    """Calls a function after one batch of a fit."""

    def __init__(self, act: Any, at: int = 3) -> None:
        self.act, self.at = act, at

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.at:
            self.act(trainer)


def fit(act: Any, at: int = 3, **settings: Any) -> Any:
    trainer = m.quiet_trainer(After(act, at), **{"max_steps": 2 * m.BATCHES, **settings})
    trainer.fit(m.Net(), *m.loaders())
    return trainer


def test_a_limit_ends_the_fit_and_gives_the_one_before() -> None:
    limits = []
    trainer = fit(lambda trainer: limits.append(limit_steps(trainer, 5)))
    assert (limits, trainer.global_step) == ([2 * m.BATCHES], 5)
    assert limit_steps(trainer, limits[0]) == 5


@pytest.mark.parametrize("min_steps", [None, 9])
def test_without_minimums_a_stop_ends_the_fit_at_once(min_steps: int | None) -> None:
    def stop(trainer: Any) -> None:
        for owner, name, value in without_minimums(trainer):
            assert hasattr(owner, name)
            setattr(owner, name, value)
        trainer.should_stop = True

    assert fit(stop, min_steps=min_steps, min_epochs=2).global_step == 3


@pytest.mark.parametrize(("at", "settings"), [(3, {}), (m.BATCHES, {}), (4, {"limit_train_batches": 4})])
def test_an_epoch_is_over_with_its_last_batch(at: int, settings: dict[str, Any]) -> None:
    found = []
    fit(lambda trainer: found.append(is_mid_epoch(trainer)), at, **settings)
    assert found == [at == 3]


class ValidatesAtItsEnd(m.AnyCallback):
    """Runs a validation where Lightning runs none, and counts."""

    def __init__(self) -> None:
        self.validations, self.trains_on = 0, False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.validations += 1

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        validate_within_fit(trainer)
        self.trains_on = trainer.training


def test_a_validation_comes_at_the_end_of_a_fit() -> None:
    callback = ValidatesAtItsEnd()
    m.quiet_trainer(callback, max_steps=3, check_val_every_n_epoch=None).fit(m.Net(), *m.loaders())
    assert (callback.validations, callback.trains_on) == (1, True)


def test_the_epochs_of_reloading_come_back() -> None:
    trainer = fit(lambda trainer: None, reload_dataloaders_every_n_epochs=1)
    before = reload_epochs(trainer)
    assert before[0] == 1
    set_reload_epochs(trainer, [0 for _ in before])
    assert reload_epochs(trainer) == [0] * len(before)
