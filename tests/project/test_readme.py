"""README.md says what holds: its programs run, its space parses, its commands are the ones that CI runs."""

import os
import re
from pathlib import Path

import pytest

from opttune.space.parse import parse_space
from tests.support.warm import run_warm

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(marker: str, language: str) -> list[str]:
    return re.findall(rf"<!-- {marker} -->\n```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(tmp_path):
    program = "\n".join(blocks("test", "python"))
    assert program.count("import opttune") == 1
    done = run_warm(["-c", program], tmp_path, clean_environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    assert "baseline" in done.stdout


def test_the_space_parses():
    (text,) = blocks("space", "yaml")
    space = parse_space(text, "readme")
    assert [branch.name for branch in space.optimizers] == ["adamw", "lion"]


def test_ci_runs_the_commands_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    for name in ("search", "test"):
        assert f"\nreadme {name}\n" in script
        (commands,) = blocks(f"ci: {name}", "bash")
        assert ".venv/bin/" in commands


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_files_that_it_links_exist(link):
    assert (ROOT / link).exists()


def clean_environment() -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PL_"))}
    return {**keep, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
