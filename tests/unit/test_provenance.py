import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from opttune.project.read import ProjectModel
from opttune.project.start import CliSource
from opttune.provenance import source_tags, versions


def git(folder: Path, *arguments: str) -> str:
    named = ["-c", "user.name=n", "-c", "user.email=e@x"]
    done = subprocess.run(["git", "-C", folder, *named, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def model(tmp_path: Path) -> Any:
    path = tmp_path / "own_model.py"
    path.write_text("class Net: pass\n")
    spec = spec_from_file_location("own_model_of_a_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Net


def test_outside_a_repository_the_file_alone_is_known(model: Any, tmp_path: Path) -> None:
    assert source_tags(model) == {"mlflow.source.name": str(tmp_path / "own_model.py"), "mlflow.source.type": "LOCAL"}


def test_the_commit_is_that_of_the_users_code_and_changes_since_are_told(model: Any, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "own_model.py")
    git(tmp_path, "commit", "-qm", "one")
    clean = source_tags(model())
    (tmp_path / "own_model.py").write_text("class Net: x = 1\n")

    assert clean["mlflow.source.git.commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert clean["opttune.git_changes"] == "no"
    assert source_tags(model)["opttune.git_changes"] == "yes"


def test_a_model_in_no_file_has_no_source() -> None:
    assert source_tags(eval("lambda: 1")) == {}
    assert source_tags(7) == {}


def test_the_versions_are_those_that_a_result_depends_on() -> None:
    assert {"torch_version", "lightning_version", "optuna_version", "mlflow_version"} <= versions().keys()


@pytest.mark.parametrize(("script", "expected"), [("main.py", "main.py"), ("main.py:cli", "main.py"), ("", "c.yaml")])
def test_the_source_of_a_lightning_cli_project_is_its_script_or_its_config(
    script: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ProjectModel(CliSource(("c.yaml",), script), "Net")

    assert source_tags(model)["mlflow.source.name"] == str(tmp_path / expected)
