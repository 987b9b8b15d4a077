"""Which engine is started, and what each of them offers."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from opttune.engines import start
from opttune.engines.engine import Engine
from opttune.engines.inline import InlineEngine
from opttune.engines.local import LocalEngine
from opttune.engines.start import start_engine
from opttune.training.stop import NEVER
from opttune.training.workload import Workload
from tests.support.search_models import Classifier, loaders

WORKLOAD = Workload(Classifier, loaders)


class Started:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def test_inline_needs_no_process(tmp_path: Path) -> None:
    assert isinstance(start_engine("inline", 1, WORKLOAD, tmp_path, {}, NEVER), InlineEngine)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("trainer", "devices", "expected"),
    [
        ({}, "0", None),
        ({"devices": [2, 3]}, "0,1", {"devices": 2}),
        ({"devices": [2, 3]}, None, None),
    ],
)
def test_a_worker_that_sees_its_own_devices_alone_counts_them_from_zero(
    trainer: dict[str, Any], devices: str | None, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    monkeypatch.setattr(start, "worker_environments", lambda workers, trainer: [environment] * workers)
    monkeypatch.setattr(start, "LocalEngine", Started)
    engine: Any = start_engine("local", 2, WORKLOAD, tmp_path, trainer, NEVER)

    assert engine.arguments == (WORKLOAD, tmp_path, [environment] * 2, expected)


@pytest.mark.parametrize("kind", [InlineEngine, LocalEngine])
def test_every_engine_offers_the_same(kind: type) -> None:
    offered = [name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")]

    assert offered == ["close", "next_done", "stop", "submit"]
    for name in offered:
        assert inspect.signature(getattr(kind, name)) == inspect.signature(getattr(Engine, name)), name
    assert isinstance(kind.trains_here, bool)
