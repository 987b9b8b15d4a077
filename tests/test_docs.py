"""The docs say what holds: their tables are the catalog's and the tests', their blocks run, the site builds."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from opttune.space.parse import parse_space

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


def load_tables() -> ModuleType:
    spec = spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = load_tables()


def environment() -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PL_"))}
    return {**keep, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def blocks(page: str, marker: str) -> list[tuple[str, str]]:
    """Return language and text of the blocks behind a marker."""
    return re.findall(rf"<!-- {marker} -->\n```(\w+)\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", TABLES.PAGES)
def test_a_written_page_is_what_the_catalog_and_the_tests_say_now(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == TABLES.PAGES[page](), "run python docs/tables.py"


def test_the_table_of_published_modules_has_five_packages_that_are_searched() -> None:
    assert len({row.package for row in TABLES.PUBLISHED if not row.refused}) >= 5
    assert {row.namespace for row in TABLES.PUBLISHED if not row.refused} == {"lightning", "pytorch_lightning"}


def test_the_space_of_the_docs_parses() -> None:
    ((_, text),) = blocks("spaces.md", "space")
    assert [branch.name for branch in parse_space(text, "docs").optimizers] == ["adamw", "lion"]


@pytest.mark.parametrize("page", PAGES)
def test_a_link_between_pages_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", (DOCS / page).read_text()):
        assert (DOCS / link).exists(), link


@pytest.mark.slow
def test_the_quick_start_and_the_blocks_of_the_guides_run(tmp_path: Path) -> None:
    ((_, text),) = blocks("index.md", "file: train.py")
    (tmp_path / "train.py").write_text(text)
    # the command of the docs is the one beside this Python
    command = f'opttune() {{ "{sys.executable}" -m opttune "$@"; }}\n'
    for language, block in blocks("index.md", "run"):
        program = [sys.executable, "-c", block] if language == "python" else ["bash", "-euc", command + block]
        run(program, tmp_path)
    guides = "".join(block for page in PAGES if page != "index.md" for _, block in blocks(page, "run"))
    run([sys.executable, "-c", guides], tmp_path)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    run([sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path / "site")], tmp_path)
    page = (tmp_path / "site" / "reference.html").read_text()
    # the signature and an argument's explanation come from the docstring
    assert "opttune.search" in page
    assert "Cost of the whole search in full trainings" in page


def run(program: list[str], folder: Path) -> None:
    done = subprocess.run(program, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
