import importlib
import json
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from opttune.catalog import OptimizerInfo, OptionInfo, lookup
from opttune.catalog.lookup import find_optimizer, register_optimizer
from opttune.engines.attempt_file import (
    ATTEMPT,
    load_attempt,
    load_result,
    load_workload,
    save_attempt,
    save_result,
    save_workload,
)
from opttune.errors import InputError, MonitorError, OpttuneError
from opttune.guard.rules import Guard
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.training.attempt import Attempt
from opttune.training.workload import Workload
from tests.support.search_models import Classifier, loaders
from tests.support.searches import MODULES, command_env
from tests.support.warm import run_warm

RECIPE = Recipe.from_dict(
    {"optimizer": {"name": "adamw", "lr": 3e-4, "betas": [0.9, 0.95]}, "schedule": "cosine", "precision": "bf16-mixed"}
)
FULL = Attempt(
    RECIPE, "val_acc", 7, {"max_steps": 9, "accelerator": "cpu"}, Guard(blow_up_ratio=2.5), Path("/x/a.ckpt"), "max",
    4, Path("/x/b.ckpt"), Path("/x/c.ckpt"),
)  # fmt: skip


@pytest.mark.parametrize("attempt", [FULL, Attempt(None, "val_loss", 0)])
def test_an_attempt_is_read_back_whole(attempt: Attempt, tmp_path: Path) -> None:
    save_attempt(tmp_path / "one", attempt, tmp_path / "workload", {"trial": 3})
    found, workload_folder = load_attempt(tmp_path / "one")

    assert found == attempt
    assert workload_folder == tmp_path / "workload"
    # a field that is added to an attempt travels as well
    assert {field.name for field in fields(Attempt)} < json.loads((tmp_path / "one" / ATTEMPT).read_text()).keys()


def test_labels_in_the_file_identify_the_attempt(tmp_path: Path) -> None:
    save_attempt(tmp_path, FULL, tmp_path, {"study": "s", "trial": 3, "run": "abc"})

    assert json.loads((tmp_path / ATTEMPT).read_text())["labels"] == {"study": "s", "trial": 3, "run": "abc"}


@pytest.mark.slow
def test_a_callback_of_the_users_own_module_is_found_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "own_callbacks_of_mine.py").write_text(
        "from lightning.pytorch.callbacks import Callback\nclass Mine(Callback): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "project")
    mine = importlib.import_module("own_callbacks_of_mine").Mine()
    save_workload(tmp_path / "workload", Workload(Classifier, loaders))
    attempt = Attempt(None, "val_loss", 0, {"callbacks": [mine]})
    save_attempt(tmp_path / "attempt", attempt, tmp_path / "workload")
    code = (
        "from pathlib import Path; from opttune.engines.attempt_file import load_attempt; "
        "print(type(load_attempt(Path('attempt'))[0].trainer['callbacks'][0]).__name__)"
    )
    done = run_warm(["-c", code], tmp_path, command_env())

    assert (done.returncode, done.stdout.strip()) == (0, "Mine"), done.stderr


def test_objects_among_the_trainers_arguments_travel_as_well(tmp_path: Path) -> None:
    trainer = {"max_steps": 9, "callbacks": [EarlyStopping("val_loss", patience=5)], "devices": (0,), "odd": {1: 2}}
    save_attempt(tmp_path, Attempt(None, "val_loss", 0, trainer), tmp_path)
    found = load_attempt(tmp_path)[0].trainer

    assert found["callbacks"][0].patience == 5
    assert (found["max_steps"], found["devices"], found["odd"]) == (9, (0,), {1: 2})


def test_a_second_attempt_in_the_same_folder_finds_nothing_of_the_first(tmp_path: Path) -> None:
    save_attempt(tmp_path, FULL, tmp_path)
    save_result(tmp_path, Outcome(StopReason.COMPLETED, 0.5, 9, 9, 1.0))
    save_attempt(tmp_path, FULL, tmp_path)

    assert load_result(tmp_path) is None


@pytest.mark.parametrize(
    "outcome", [Outcome(StopReason.COMPLETED, 0.5, 9, 9, 1.0), Outcome(StopReason.FAILED, None, 2, 9, 1.0, "no", "T")]
)
def test_an_outcome_is_read_back_whole(outcome: Outcome, tmp_path: Path) -> None:
    assert load_result(tmp_path) is None
    save_result(tmp_path, outcome)

    assert load_result(tmp_path) == outcome


@pytest.mark.parametrize("error", [MonitorError("never logged"), InputError("not so"), OpttuneError("any")])
def test_an_error_of_opttunes_is_read_back_as_what_it_is(error: OpttuneError, tmp_path: Path) -> None:
    save_result(tmp_path, error)
    found = load_result(tmp_path)

    assert type(found) is type(error)
    assert str(found) == str(error)


def test_an_error_of_another_name_becomes_opttunes_own_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text(json.dumps({"error": ["Iterable", "x"]}))

    assert type(load_result(tmp_path)) is OpttuneError


def test_references_travel_as_text(tmp_path: Path) -> None:
    model, data = f"{MODULES}:Classifier", f"{MODULES}:loaders"
    save_workload(tmp_path, Workload(Classifier, loaders, model, data))
    found = load_workload(tmp_path)

    assert model in (tmp_path / "workload.json").read_text()
    assert b"Classifier" not in (tmp_path / "objects.pkl").read_bytes()
    assert type(found.make_model()).__name__ == "Classifier"
    assert (found.model_reference, found.data_reference) == (model, data)


def test_objects_travel_with_their_state(tmp_path: Path) -> None:
    model = Classifier()
    save_workload(tmp_path, Workload(model, loaders()))
    found = load_workload(tmp_path).make_model()

    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))
    assert found is not model


def test_a_class_that_no_import_finds_travels_by_value(tmp_path: Path) -> None:
    class Here(Classifier):
        pass

    save_workload(tmp_path, Workload(lambda: Here()))

    assert type(load_workload(tmp_path).make_model()).__name__ == "Here"


class Locked(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (Workload(Locked()), "model cannot be sent .*_thread.lock.*a function without arguments.*--engine inline"),
        (Workload(Classifier, iter([threading.Lock()])), "data cannot be sent .*file.py:name"),
    ],
)
def test_what_cannot_be_pickled_is_named_with_what_to_pass_instead(
    workload: Workload, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        save_workload(tmp_path, workload)


def test_an_argument_of_the_trainer_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trainer cannot be sent"):
        save_attempt(tmp_path, Attempt(None, "val_loss", 0, {"logger": threading.Lock()}), tmp_path)


def test_an_optimizer_of_the_users_own_is_known_where_the_training_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf: Any = lookup._OPTIMIZERS
    monkeypatch.setattr(shelf, "rows", dict(shelf.rows))
    register_optimizer(OptimizerInfo("mine", torch.optim.Adagrad, "s", (OptionInfo("lr", 0.1),), source="x"))
    save_workload(tmp_path, Workload(Classifier))
    # as in a process that has just started
    del shelf.rows["mine"]
    load_workload(tmp_path)

    assert find_optimizer("mine").class_path is torch.optim.Adagrad
