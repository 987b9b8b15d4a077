"""Finding and registering rows."""

import pytest
import torch

from opttune.catalog import OptimizerInfo, OptionInfo, ScheduleInfo, lookup
from opttune.errors import UnknownNameError

ROW = OptimizerInfo("mine", torch.optim.Rprop, "mine", (OptionInfo("lr", 1e-2),), "nobody")


@pytest.fixture(autouse=True)
def _shelves_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    for shelf in (lookup._OPTIMIZERS, lookup._SCHEDULES):
        monkeypatch.setattr(shelf, "rows", dict(shelf.rows))


def test_a_registered_optimizer_is_found_and_listed_last() -> None:
    lookup.register_optimizer(ROW)
    assert lookup.find_optimizer("mine") is ROW
    assert lookup.optimizer_names()[-1] == "mine"


def test_a_registered_schedule_is_found() -> None:
    row = ScheduleInfo("half", lambda progress: 0.5, "a half", (), "nobody")
    lookup.register_schedule(row)
    assert lookup.find_schedule("half") is row
    assert lookup.schedule_names()[-1] == "half"


def test_a_name_is_registered_once() -> None:
    lookup.register_optimizer(ROW)
    with pytest.raises(UnknownNameError, match="optimizer 'mine' is already registered; choose another name"):
        lookup.register_optimizer(ROW)


@pytest.mark.parametrize("kind", ["optimizer", "schedule"])
def test_an_unknown_name_is_answered_with_the_nearest(kind: str) -> None:
    find, near = {
        "optimizer": (lookup.find_optimizer, "schedule_free_sgd"),
        "schedule": (lookup.find_schedule, "cosine_restarts"),
    }[kind]
    with pytest.raises(
        UnknownNameError, match=rf"unknown {kind} '{near}x'\. Did you mean '{near}'\? .*opttune {kind}s"
    ):
        find(f"{near}x")
