"""README.md says what holds: its programs run, its figures are those of the docs, CI runs its commands."""

import json
import os
import re
from pathlib import Path

import pytest

from opttune.catalog.lookup import optimizer_names
from tests.project.test_docs import TABLES
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


def test_it_is_read_in_a_minute() -> None:
    assert len(README.encode()) <= 7000


FIGURES = json.loads((ROOT / "docs" / "figures" / "readme.json").read_text(encoding="utf-8"))


def test_its_figures_are_those_of_the_one_file() -> None:
    assert FIGURES
    assert TABLES.readme() == README, "run python docs/tables.py"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure["page"])
def test_a_figure_is_in_the_page_that_it_links_with_its_command(figure: dict[str, object]) -> None:
    page = (ROOT / "docs" / str(figure["page"])).read_text(encoding="utf-8")
    quotes = [str(quote) for quote in figure["quotes"]]
    assert [quote for quote in quotes if quote not in page] == []
    assert f"`{figure['command']}`" in page
    numbers = re.findall(r"\d[\d,.]*\d%?|\d%", str(figure["claim"]))
    unquoted = [number for number in numbers if number not in " ".join(quotes)]
    # of an interval, and an average that is no figure
    assert set(unquoted) <= {"95%"}


def test_it_counts_the_optimizers() -> None:
    assert f"{len(optimizer_names())} optimizers" in README


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
