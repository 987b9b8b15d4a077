"""What is installed: the wheel carries the spaces, the types' marker and the command."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # --no-isolation: the build backend is among the test requirements, and nothing is downloaded
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_carries_every_space_and_the_types_marker(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    spaces = {f"opttune/search_spaces/{path.name}" for path in (ROOT / "search_spaces").glob("*.yaml")}
    assert spaces
    assert spaces <= names
    assert {"opttune/py.typed", "opttune/catalog/recorded_costs.json"} <= names
    assert {f"opttune/{path.relative_to(ROOT / 'opttune')}" for path in (ROOT / "opttune").rglob("*.py")} <= names


@pytest.mark.slow
def test_spaces_are_found_from_an_installed_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "import opttune, pathlib; from opttune.space.parse import load_space, space_names;"
        f"assert pathlib.Path(opttune.__file__).is_relative_to({str(tmp_path)!r}), opttune.__file__;"
        "print(*(load_space(name).name for name in space_names()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(path.stem for path in (ROOT / "search_spaces").glob("*.yaml"))


@pytest.mark.slow
def test_the_source_distribution_carries_what_the_wheel_is_made_of(tmp_path):
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "opttune/py.typed", "search_spaces/adamw.yaml"} <= names
    assert {"docs/index.md", "examples/spaces/language_model.yaml", "tests/project/test_packaging.py"} <= names


def test_the_lowest_versions_are_those_that_the_project_declares():
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "lowest_versions.py")], capture_output=True, text=True, check=True
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = {line.partition("==")[0] for line in done.stdout.split() if "==" in line}
    assert stated >= {dependency.partition(">=")[0] for dependency in project["dependencies"]} - {"torch"}
