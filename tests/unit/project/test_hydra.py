"""A Hydra project: what a search reads of it, the search itself, and its recipe as an experiment config."""

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opttune.errors import InputError, MissingExtraError
from opttune.project import hydra, read
from opttune.project.hydra import HydraSource, find_hydra
from opttune.project.read import Project, load_project, read_source
from opttune.references import load_reference
from tests.support.hydra_project import write_hydra_project
from tests.support.searches import command_env, make_database, run_command
from tests.support.warm import run_warm


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    path, modules = list(sys.path), dict(sys.modules)
    monkeypatch.chdir(tmp_path)
    # set by the project when it is read
    monkeypatch.setenv("PROJECT_ROOT", "")
    monkeypatch.delenv("PROJECT_ROOT")
    write_hydra_project(tmp_path)
    yield
    read._OPENED.clear()
    sys.path[:] = path
    for name in [name for name in sys.modules if name == "src" or name.startswith("src.")]:
        if name not in modules:
            del sys.modules[name]
    os.environ.pop("PROJECT_ROOT", None)


def load(*overrides: str) -> Project:
    return load_project(find_hydra("configs", overrides))


def test_model_and_data_are_what_the_nodes_make_anew_each_time() -> None:
    loaded = load("model.optimizer.lr=0.25")
    models = [loaded.model(), loaded.model()]
    assert models[0] is not models[1]
    assert models[0].hparams.optimizer(models[0].parameters()).defaults["lr"] == 0.25
    data = loaded.data()
    assert type(data).__name__ == "PointsDataModule"
    assert data is not load().data()
    assert data.hparams.data_dir == f"{Path.cwd()}/data/"
    assert loaded.model.__name__ == "LitModule"
    assert loaded.model.file == Path.cwd() / "configs" / "train.yaml"


def test_settings_callbacks_length_metric_and_seed_come_along() -> None:
    loaded = load("logger=csv", "+trainer.max_steps=5")
    output = f"{Path.cwd()}/outputs/opttune"
    callbacks = loaded.trainer["callbacks"]
    assert {name: value for name, value in loaded.trainer.items() if name != "callbacks"} == {
        "default_root_dir": output, "min_epochs": 1, "accelerator": "cpu", "devices": 1,
        "deterministic": False,
    }  # fmt: skip
    assert [type(callback).__name__ for callback in callbacks] == ["EarlyStopping"]
    assert loaded.length == {"max_steps": 5, "max_epochs": 3}
    assert (loaded.watched, loaded.seed) == (("val/acc", "max"), 3)
    assert loaded.notes == (
        "The model is LitModule, from configs/train.yaml.",
        "Left out in the search: ModelCheckpoint, logger.",
        "A training ends at the first of max_steps=5 and max_epochs=3.",
    )
    # it is left out unmade
    assert not Path(output).exists()


def test_an_experiment_overrides() -> None:
    loaded = load("experiment=wide")
    assert loaded.model().net.layers[0].out_features == 20
    assert (loaded.length, loaded.trainer["gradient_clip_val"]) == ({"max_epochs": 2}, 0.5)


def test_what_makes_the_model_can_be_sent_and_kept_as_text() -> None:
    loaded = load("seed=4")
    assert pickle.loads(pickle.dumps(loaded.model)) == loaded.model
    assert read_source(loaded.model.source.to_text()) == loaded.model.source


def test_the_config_is_found_by_its_folder_or_its_name() -> None:
    for place in ("configs", "configs/train", "configs/train.yaml"):
        assert find_hydra(place) == HydraSource(f"{Path.cwd()}/configs", "train")
    Path("configs/other.yaml").write_text("")
    assert find_hydra("configs").name == "train"
    Path("configs/train.yaml").rename("configs/another.yaml")
    with pytest.raises(InputError, match=r"which config of configs\? Give configs/NAME. Allowed: another, other"):
        find_hydra("configs")
    with pytest.raises(InputError, match="there is no config configs/train"):
        find_hydra("configs/train")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.widht=3", "configs/train.yaml: .*widht"),
        ("model.net.width=wide", r"node model cannot be made: .*TypeError.*make_model path/file.py:make_data"),
        ("ckpt_path=last.ckpt", "ckpt_path: last.ckpt, .* -- ckpt_path=null"),
        ("~model", "has no node 'model' with a _target_"),
        ("data.data_dir=${nowhere}", "node data cannot be made: .*nowhere"),
    ],
)
def test_what_cannot_be_made_is_named(override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(override)


def test_without_hydra_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydra, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'opttune\[hydra\]'"):
        load()


def test_the_functions_of_the_docs_make_the_same() -> None:
    page = Path(__file__).parents[3] / "docs" / "hydra.md"
    Path("tune.py").write_text(page.read_text().partition("<!-- file: tune.py -->\n```python\n")[2].partition("```")[0])
    model, data = (load_reference(f"tune.py:make_{what}", what) for what in ("model", "data"))
    sys.modules.pop("tune")
    assert model().net.layers[0].out_features == load().model().net.layers[0].out_features
    assert data().hparams.batch_size == 16


TRAIN = """
    import lightning

    lightning.seed_everything(cfg.seed, workers=True)
    data, model = hydra.utils.instantiate(cfg.data), hydra.utils.instantiate(cfg.model)
    callbacks = [hydra.utils.instantiate(node) for node in cfg.callbacks.values()]
    trainer = hydra.utils.instantiate(cfg.trainer, callbacks=callbacks, logger=False)
    trainer.fit(model, data)
    print("value", trainer.callback_metrics["val/loss"].item())
"""


@pytest.mark.slow
def test_a_project_is_searched_exported_trained_and_confirmed(tmp_path: Path) -> None:
    make_database(tmp_path)
    searched = run_command(
        tmp_path, "search", "--hydra", "configs", "--space", "adamw", "--budget", "3", "--monitor", "val/loss",
        "--no-report", "--json", "--", "experiment=wide",
    )  # fmt: skip
    assert searched.returncode == 0, searched.stderr
    result = json.loads(searched.stdout.splitlines()[-1])
    assert (result["study"], result["budget_steps"]) == ("LitModule-adamw", 3 * 12)
    exported = run_command(tmp_path, "export", "LitModule-adamw", "--format", "hydra")
    assert exported.stdout.startswith("# @package _global_\n")
    (tmp_path / "configs/experiment/best.yaml").write_text(exported.stdout)
    script = tmp_path / "src/train.py"
    script.write_text(
        script.read_text().replace('    raise AssertionError("opttune does not run the script")\n', TRAIN)
    )
    path = f"{tmp_path}:{command_env()['PYTHONPATH']}"
    environment = command_env(PROJECT_ROOT=str(tmp_path), PYTHONPATH=path)
    trained = run_warm(["src/train.py", "experiment=best", "model.net.width=20"], tmp_path, environment)
    assert trained.returncode == 0, trained.stderr
    assert float(trained.stdout.rpartition("value ")[2].split()[0]) == pytest.approx(result["best_value"], rel=1e-6)
    confirmed = run_command(tmp_path, "confirm", "LitModule-adamw", "--top", "1", "--seeds", "2", "--json")
    assert confirmed.returncode == 0, confirmed.stderr
