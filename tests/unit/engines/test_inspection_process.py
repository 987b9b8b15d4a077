import pickle
from pathlib import Path

from opttune.engines.attempt_file import load_result, save_attempt, save_workload
from opttune.engines.inspection_process import main
from opttune.engines.several import SURVEY
from opttune.errors import MonitorError
from opttune.training.attempt import Attempt
from opttune.training.inspection import ModelInspection
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support.pauses import RECIPE


def look(folder: Path, monitor: str, steps: int) -> int:
    save_workload(folder / "workload", Workload(m.Net, m.loaders))
    attempt = Attempt(RECIPE, monitor, 3, {"max_steps": 14, "accelerator": "cpu"})
    save_attempt(folder, attempt, folder / "workload")
    return main([str(folder), str(steps)])


def test_what_it_sees_stands_in_the_folder(tmp_path: Path) -> None:
    assert look(tmp_path, "val_loss", 1) == 0
    looked = pickle.loads((tmp_path / SURVEY).read_bytes())
    assert isinstance(looked, ModelInspection)
    assert (looked.total_steps, looked.parameters) == (14, 58)


def test_so_does_what_is_wrong(tmp_path: Path) -> None:
    assert look(tmp_path, "val_los", 1) == 0
    assert isinstance(load_result(tmp_path), MonitorError)
    assert not (tmp_path / SURVEY).exists()
