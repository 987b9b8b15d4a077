"""A LightningCLI project: what a search reads of it, and the search itself."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opttune.errors import InputError, MissingExtraError
from opttune.project import read
from opttune.project.read import Project, load_project
from opttune.project.start import CliSource
from tests.support.cli_project import CONFIG, MAIN, NETWORK, SUBCLASS_CONFIG, write_project
from tests.support.searches import command_env, make_database, run_command
from tests.support.warm import run_warm

SOURCE = CliSource(("config.yaml",), "main.py")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    path, main = list(sys.path), sys.modules["__main__"]
    monkeypatch.chdir(tmp_path)
    yield
    read._OPENED.clear()
    sys.path[:] = path
    sys.modules["__main__"] = main
    sys.modules.pop("network", None)


def load(config: str = CONFIG, *arguments: str) -> Project:
    write_project(Path(), config=config)
    return load_project(CliSource(("config.yaml",), "main.py", arguments=arguments))


def test_a_model_is_made_anew_with_the_data_that_belongs_to_it() -> None:
    loaded = load()
    models = [loaded.model(), loaded.model()]
    assert models[0] is not models[1]
    assert models[0].hparams.width == 24
    assert type(models[0].net[1]).__name__ == "Tanh"
    assert loaded.data().hparams.count == 96
    assert loaded.model.__name__ == "Net"


def test_the_trainers_settings_are_taken_but_for_what_opttune_does() -> None:
    loaded = load()
    assert set(loaded.trainer) == {"accumulate_grad_batches", "callbacks"}
    assert [type(callback).__name__ for callback in loaded.trainer["callbacks"]] == ["EarlyStopping"]
    assert loaded.length == {"max_epochs": 3}
    assert loaded.watched == ("val_loss", "min")
    assert loaded.seed == 7
    assert loaded.notes == (
        "The model is Net, from main.py and config.yaml.",
        "Left out in the search: LearningRateMonitor, ModelCheckpoint.",
    )


def test_another_length_and_metric() -> None:
    loaded = load(CONFIG.replace("max_epochs: 3", "max_steps: 40\n  max_epochs: -1\n  max_time: 00:01:00:00"))
    assert loaded.length == {"max_steps": 40}
    assert "max_time" not in loaded.trainer
    assert "max_time" in loaded.notes[1]
    both = load("trainer: {max_steps: 4, max_epochs: 2, min_epochs: 1}\n")
    assert both.length == {"max_steps": 4, "max_epochs": 2}
    assert both.notes[1] == "A training ends at the first of max_steps=4 and max_epochs=2."
    assert both.trainer == {"min_epochs": 1}
    assert load("trainer: {max_steps: 4}\n").watched is None


def test_the_configs_own_optimizer_is_the_models() -> None:
    given = CONFIG + "optimizer: {class_path: torch.optim.RMSprop, init_args: {lr: 0.25}}\n"
    with pytest.warns(UserWarning, match="will be overridden"):
        optimizer = load(given).model().configure_optimizers()
    assert type(optimizer).__name__ == "RMSprop"
    assert optimizer.defaults["lr"] == 0.25


HOOK = """
    def after_instantiate_classes(self):
        from lightning.pytorch.callbacks import EarlyStopping, Timer

        assert [type(each).__name__ for each in self.trainer.callbacks][0] == "EarlyStopping"
        assert self.trainer.default_root_dir and self.trainer.max_epochs == 3
        self.trainer.logger.log_hyperparams({"a": 1})
        self.trainer.logger.experiment.watch(self.model)
        stopping = next(each for each in self.trainer.callbacks if isinstance(each, EarlyStopping))
        self.trainer.callbacks.remove(stopping)
        self.trainer.callbacks.append(Timer())

    def instantiate_trainer(self, **kwargs):
        trainer = super().instantiate_trainer(**kwargs)
        assert trainer.callbacks
        return trainer
"""


# the second names a Trainer that this machine cannot make
@pytest.mark.parametrize("config", [CONFIG, CONFIG.replace("trainer:", "trainer:\n  accelerator: cuda")])
def test_a_hook_of_the_cli_has_a_trainer_and_may_change_its_callbacks(config: str) -> None:
    logged = config.replace("logger: false", "logger: {class_path: CSVLogger, init_args: {save_dir: logs}}")
    write_project(Path(), config=logged, main=MAIN.replace("\ndef main", HOOK + "\ndef main"))
    loaded = load_project(SOURCE)
    assert [type(callback).__name__ for callback in loaded.trainer["callbacks"]] == ["Timer"]
    assert "logger" in loaded.notes[1]
    assert not Path("logs").exists()


def test_what_makes_model_and_data_can_be_sent_to_another_process() -> None:
    loaded = load()
    assert pickle.loads(pickle.dumps(loaded.model)) == loaded.model
    assert pickle.loads(pickle.dumps(loaded.data)) == loaded.data


def test_a_checkpoint_to_resume_from_is_refused() -> None:
    with pytest.raises(InputError, match=r"ckpt_path: last.ckpt.*-- --ckpt_path=null"):
        load(CONFIG + "ckpt_path: last.ckpt\n")


def test_without_jsonargparse_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'opttune\[cli\]'"):
        load_project(SOURCE)


@pytest.mark.slow
def test_the_command_searches_a_project_of_the_other_name(tmp_path: Path) -> None:
    write_project(tmp_path, "pytorch_lightning")
    make_database(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.glob("*.py")}
    done = run_command(
        tmp_path, "search", "--config", "config.yaml", "--space", "adamw", "--budget", "3", "--no-report", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert "The model is Net, from main.py and config.yaml." in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["study"] == "Net-adamw"
    assert result["best_value"] < result["baseline_value"]
    # 96 points in batches of 16, two batches a step, 3 epochs
    assert result["budget_steps"] == 3 * 9
    assert result["best_recipe"]["accumulate_grad_batches"] == 2
    assert {path.name: path.read_text() for path in tmp_path.glob("*.py")} == before


def run_main(folder: Path, *configs: str) -> subprocess.CompletedProcess[str]:
    given = [f"--config={config}" for config in configs]
    return run_warm(["main.py", "fit", *given], folder, command_env())


@pytest.mark.slow
def test_a_project_is_searched_exported_trained_and_confirmed(tmp_path: Path) -> None:
    saying = (
        NETWORK
        + "\n    def on_fit_end(self):\n        print('value', self.trainer.callback_metrics['val_loss'].item())\n"
    )
    write_project(tmp_path)
    (tmp_path / "network.py").write_text(saying.replace("{namespace}", "lightning.pytorch"))
    # without a logger Lightning would save its config over this one
    (tmp_path / "config.yaml").write_text(CONFIG.replace("  logger: false\n", ""))
    make_database(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.glob("*.py")}
    searched = run_command(
        tmp_path, "search", "--config", "config.yaml", "--space", "adamw", "--budget", "3", "--no-report", "--json"
    )
    assert searched.returncode == 0, searched.stderr
    result = json.loads(searched.stdout.splitlines()[-1])
    exported = run_command(tmp_path, "export", "Net-adamw", "--format", "lightning-cli")
    assert exported.returncode == 0, exported.stderr
    (tmp_path / "best.yaml").write_text(exported.stdout)

    trained = run_main(tmp_path, "config.yaml", "best.yaml")
    assert trained.returncode == 0, trained.stderr
    assert "opttune: replaced SGD(lr=0.001) by adamw" in trained.stderr + trained.stdout
    assert {path.name: path.read_text() for path in tmp_path.glob("*.py")} == before
    # the same seed, length and order of data
    value = float(trained.stdout.rpartition("value ")[2].split()[0])
    assert value == pytest.approx(result["best_value"], rel=1e-6)

    confirmed = run_command(tmp_path, "confirm", "Net-adamw", "--top", "1", "--seeds", "2", "--json")
    assert confirmed.returncode == 0, confirmed.stderr


@pytest.mark.slow
def test_a_config_in_subclass_mode_needs_no_script(tmp_path: Path) -> None:
    write_project(tmp_path, config=SUBCLASS_CONFIG, main="")
    make_database(tmp_path)
    done = run_command(
        tmp_path, "search", "--config", "config.yaml", "--trials", "1", "--space", "sgd", "--no-report", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["budget_steps"] == 20 * 12
