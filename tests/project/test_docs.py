"""The docs say what holds: their tables are the catalog's and the tests', their blocks run, the site builds."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import opttune
from opttune.cli.parser import _make_parser
from opttune.cli.project import split_arguments
from opttune.space.parse import parse_space
from tests.support.warm import run_warm

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in (*DOCS.glob("*.md"), *DOCS.glob("gallery/*.md")))


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


def test_the_spaces_of_the_docs_parse() -> None:
    first, groups, *several = (parse_space(text, "docs") for _, text in blocks("spaces.md", "space"))
    assert [branch.name for branch in first.optimizers] == ["adamw", "lion"]
    assert [space.optimizers[0].name for space in several] == ["adamw+own", "own+own"]
    assert [name for name, _ in groups.group_fields] == ["no_decay_embeddings", "layer_decay", "lr_ratio_backbone"]


@pytest.mark.parametrize("page", PAGES)
def test_a_link_between_pages_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", (DOCS / page).read_text()):
        assert (DOCS / page).parent.joinpath(link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_every_program_of_a_page_is_one_that_runs_here(page: str) -> None:
    text = (DOCS / page).read_text()
    programs = re.findall(r"^(.*)\n```python\n", text, flags=re.MULTILINE)
    assert all(re.fullmatch(r"<!-- (run|file: \S+) -->", line) for line in programs)
    assert len(programs) == len(re.findall(r"^```python$", text, flags=re.MULTILINE))


def commands() -> list[str]:
    """Return the commands that README and docs show, on lines of their own and within sentences."""
    text = "\n".join(path.read_text() for path in (ROOT / "README.md", *map(DOCS.joinpath, PAGES)))
    fenced = "\n".join(re.findall(r"^```\S*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    fenced = re.sub(r" +\\\n *", " ", fenced)
    lines = re.findall(r"^(?:\S*/)?opttune ([a-z].*)$", fenced, flags=re.MULTILINE)
    within = re.findall(r"`opttune ([a-z]+ [^`]+)`", text)  # a name alone is that of the command
    return sorted(line for line in {*lines, *within} if not line.endswith("--help"))


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_docs_is_one_that_there_is(line: str) -> None:
    arguments, _ = split_arguments(shlex.split(re.split(r" > | &$", line)[0], comments=True))
    # placeholders, and what may be left out
    given = [word for word in arguments if word not in ("...", "[DATA]", "[NAME]")]
    assert callable(_make_parser().parse_args(given).run)


def test_the_docs_show_every_command() -> None:
    shown = {line.split()[0] for line in commands()}
    assert shown >= {"search", "report", "confirm", "export", "transfer", "sync", "spaces", "optimizers", "schedules"}


@pytest.mark.slow
def test_the_quick_start_and_the_blocks_of_the_guides_run(tmp_path: Path) -> None:
    for name in ("train.py", "tabular.py"):
        ((_, text),) = blocks("index.md", f"file: {name}")
        (tmp_path / name).write_text(text)
    for language, block in blocks("index.md", "run"):
        run_python(["-c", block] if language == "python" else ["-m", *shlex.split(block)], tmp_path)
    guides = "".join(block for page in PAGES if page != "index.md" for _, block in blocks(page, "run"))
    run_python(["-c", guides], tmp_path)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    run([sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path / "site")], tmp_path)
    for name in PAGES:
        title = re.findall(r"^# (.*)$", (DOCS / name).read_text(), flags=re.MULTILINE)[0]
        # Sphinx adds pages: one of the same name would be lost
        assert f"<h1>{title}<" in (tmp_path / "site" / name).with_suffix(".html").read_text(), name
    page = (tmp_path / "site" / "reference.html").read_text()
    # the signature and an argument's explanation come from the docstring
    assert "opttune.search" in page
    assert "Cost of the whole search in full trainings" in page
    assert [name for name in opttune.__all__ if f'id="opttune.{name}"' not in page] == ["__version__"]


def run_python(arguments: list[str], folder: Path) -> None:
    done = run_warm(arguments, folder, environment(), timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def run(program: list[str], folder: Path) -> None:
    done = subprocess.run(program, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
