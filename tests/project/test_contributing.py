"""CONTRIBUTING.md, the Makefile, the hooks and the workflow say what CI does."""

import re
import tomllib
from pathlib import Path

import pytest

from opttune.version import __version__
from opttune.yaml_text import read_yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def recipe(target: str) -> list[str]:
    """Return the commands of a target and of the targets that it needs, without their environment."""
    found = re.search(rf"^{target}:([^#\n]*).*\n((?:\t.*\n)*)", MAKEFILE, flags=re.MULTILINE)
    assert found is not None, target
    before = [command for name in found[1].split() for command in recipe(name)]
    return before + [line.strip().removeprefix("$(PYTHON) -m ") for line in found[2].splitlines()]


def test_make_check_runs_what_ci_runs() -> None:
    (commands,) = re.findall(r"<!-- ci: test -->\n```bash\n(.*?)```", README, flags=re.DOTALL)
    last = commands.splitlines()[-1]
    assert recipe("check") == [command.removeprefix(".venv/bin/") for command in last.split(" && ")]


def test_the_hooks_run_the_tools_of_ci() -> None:
    hooks = read_yaml((ROOT / ".pre-commit-config.yaml").read_text()).data["repos"][0]["hooks"]
    tools = [hook["entry"].removeprefix("python -m ").split(" --")[0] for hook in hooks]
    assert tools == [command.split(" --")[0] for command in recipe("lint")]
    assert {hook["language"] for hook in hooks} == {"system"}


def test_ruff_and_mypy_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = [one.partition("==")[0] for one in project["optional-dependencies"]["test"] if "==" in one]
    assert pinned == ["mypy", "ruff"]


def test_the_workflow_runs_ci() -> None:
    jobs = read_yaml((ROOT / ".github" / "workflows" / "ci.yml").read_text()).data["jobs"]
    assert {"run": ".ci/run"} in jobs["test"]["steps"]


def test_the_citation_names_this_version_and_licence() -> None:
    citation = read_yaml((ROOT / "CITATION.cff").read_text()).data
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (__version__, project["license"])


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)`", PAGE, re.MULTILINE))))
def test_a_target_of_make_is_one_that_there_is(target: tuple[str, str]) -> None:
    assert recipe("".join(target))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:opttune|tests|docs|search_spaces)/[^`\s]*)`", PAGE))))
def test_a_path_of_the_page_is_there(path: str) -> None:
    assert list(ROOT.glob(path.replace("NAME", "*")))


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", PAGE))
def test_a_link_of_the_page_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
