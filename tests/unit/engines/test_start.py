from pathlib import Path
from typing import Any

import pytest

from opttune.engines import start
from opttune.engines.inline import InlineEngine
from opttune.engines.start import start_engine
from opttune.training.stop import NEVER
from opttune.training.workload import Workload
from tests.support.search_modules import Classifier, loaders

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
