"""The scheduler around a schedule, and what Lightning is told of it."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from opttune.build.schedule import build_scheduler, multiplier, scheduler_config, warmup_config
from opttune.catalog import ScheduleInfo, lookup
from opttune.errors import RecipeError
from opttune.recipe import Part


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def test_a_schedule_that_follows_the_monitor_has_no_curve() -> None:
    with pytest.raises(RecipeError, match="schedule 'plateau' follows the monitored metric: it has no curve"):
        multiplier(Part("plateau"), 10)


def test_lightning_steps_a_curve_after_each_optimizer_step_and_a_plateau_after_each_epoch() -> None:
    curve = scheduler_config(Part("cosine"), sgd(), 10, monitor="val_loss")
    assert isinstance(curve.pop("scheduler"), LambdaLR)
    assert curve == {"interval": "step", "frequency": 1}
    plateau = scheduler_config(Part("plateau"), sgd(), 10, monitor="val_acc", mode="max")
    scheduler = plateau.pop("scheduler")
    assert isinstance(scheduler, ReduceLROnPlateau)
    assert scheduler.mode == "max"
    assert plateau == {"interval": "epoch", "monitor": "val_acc", "reduce_on_plateau": True}


def test_a_resumed_run_follows_the_schedule_of_its_new_length() -> None:
    optimizer = sgd()
    short = build_scheduler(Part("linear"), optimizer, 10)
    for _ in range(5):
        optimizer.step()
        short.step()
    again = sgd()
    long = build_scheduler(Part("linear"), again, 100)
    again.load_state_dict(optimizer.state_dict())
    long.load_state_dict(short.state_dict())
    again.step()
    long.step()
    assert again.param_groups[0]["lr"] == pytest.approx(0.1 * 0.94)


def test_a_schedule_of_ones_own_may_be_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    half: Callable[[float], float] = lambda progress: 0.5  # noqa: E731
    monkeypatch.setitem(lookup._SCHEDULES.rows, "half", ScheduleInfo("half", half, "a half", (), "nobody"))
    assert multiplier(Part("half"), 10)(3) == 0.5


def test_a_scheduler_can_be_built_for_an_optimizer_that_has_run_before() -> None:
    optimizer = sgd()
    build_scheduler(Part("plateau"), optimizer, 10)
    optimizer.param_groups[0]["lr"] = 0.01
    build_scheduler(Part("plateau"), optimizer, 10)
    assert optimizer.param_groups[0]["initial_lr"] == 0.1


def test_the_plateau_drops_as_torchs_own() -> None:
    optimizer, twin = sgd(), sgd()
    part = Part("plateau", {"decay_factor": 0.5, "patience_checks": 1, "final_lr_fraction": 0.2})
    ours = build_scheduler(part, optimizer, 40, mode="max")
    reference = ReduceLROnPlateau(twin, mode="max", factor=0.5, patience=1, min_lr=0.1 * 0.2)
    for value in (0.1, 0.2, 0.2, 0.2, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1):
        ours.step(value)  # type: ignore[arg-type]
        reference.step(value)
        assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] for group in twin.param_groups]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


WARMED = {"decay_factor": 0.5, "patience_checks": 0, "warmup_fraction": 0.25}


def warmed(total_steps: int = 40) -> tuple[torch.optim.SGD, Any]:
    optimizer = sgd()
    return optimizer, build_scheduler(Part("plateau", WARMED), optimizer, total_steps)


def steps(optimizer: torch.optim.SGD, scheduler: Any, count: int) -> None:
    for _ in range(count):
        optimizer.step()
        scheduler.step()


def test_checks_within_the_warmup_say_nothing() -> None:
    optimizer, scheduler = warmed()
    steps(optimizer, scheduler, 4)
    for value in (0.1, 5.0, 5.0):
        scheduler.step(value)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    steps(optimizer, scheduler, 6)
    assert optimizer.param_groups[0]["lr"] == 0.1
    # nor is what was seen there a value to beat
    scheduler.step(5.0)
    assert optimizer.param_groups[0]["lr"] == 0.1
    scheduler.step(5.0)
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_after_the_warmup_steps_leave_the_rate_to_the_metric() -> None:
    optimizer, scheduler = warmed()
    steps(optimizer, scheduler, 10)
    for value in (1.0, 1.0):
        scheduler.step(value)
    steps(optimizer, scheduler, 20)
    assert optimizer.param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize("done", [4, 10, 15])
def test_a_warmed_plateau_is_resumed_exactly(done: int) -> None:
    optimizer, scheduler = warmed()
    steps(optimizer, scheduler, done)
    for value in (1.0, 1.0):
        scheduler.step(value)
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    again, resumed = warmed()
    again.load_state_dict(loaded["optimizer"])
    resumed.load_state_dict(loaded["scheduler"])
    for _ in range(12):
        assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        for one, its in ((optimizer, scheduler), (again, resumed)):
            steps(one, its, 2)
            its.step(1.0)


@pytest.mark.parametrize(("total_steps", "expected"), [(80, 0.1 * 7 / 20), (8, 0.1)])
def test_a_resumed_warmup_is_that_of_the_new_length(total_steps: int, expected: float) -> None:
    optimizer, scheduler = warmed(40)
    steps(optimizer, scheduler, 6)
    again, resumed = warmed(total_steps)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert again.param_groups[0]["lr"] == pytest.approx(expected)


def test_lightning_steps_a_plateau_in_its_warmup_by_a_second_config() -> None:
    config = scheduler_config(Part("plateau", WARMED), sgd(), 40, monitor="val_loss")
    again = warmup_config(config)
    assert again == {"scheduler": config["scheduler"], "interval": "step", "frequency": 1, "reduce_on_plateau": False}
    assert warmup_config(scheduler_config(Part("plateau"), sgd(), 40, monitor="val_loss")) is None
    assert warmup_config(scheduler_config(Part("cosine", {"warmup_fraction": 0.2}), sgd(), 40, monitor="v")) is None


def test_a_warmup_of_less_than_a_step_is_none() -> None:
    optimizer = sgd()
    assert type(build_scheduler(Part("plateau", {"warmup_fraction": 0.01}), optimizer, 10)) is ReduceLROnPlateau
    assert optimizer.param_groups[0]["lr"] == 0.1
