"""docs/architecture.md names every package, and only files, classes and functions that are there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "opttune"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", PAGE)
FILES = sorted({span for span in SPANS if re.fullmatch(r"[\w/.]+\.py(::[\w.]+)?", span)})


def names_in(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Yield the functions and classes of a file, and the methods of its classes as `Class.method`."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from names_in(node.body, f"{node.name}.")


def parts() -> set[str]:
    """Return the packages of opttune, as `space/`, and its modules outside packages, as `recipe`."""
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    return packages | {path.stem for path in PACKAGE.glob("[!_]*.py")}


def test_every_package_and_module_is_in_the_table_of_packages() -> None:
    table = PAGE.partition("## Packages")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for cell in first for name in re.findall(r"`([^`]+)`", cell)]
    assert sorted(named) == sorted(parts())


@pytest.mark.parametrize("reference", FILES)
def test_a_file_and_a_name_in_it_are_there(reference: str) -> None:
    path, _, name = reference.partition("::")
    found = next((root / path for root in (PACKAGE, ROOT) if (root / path).is_file()), None)
    assert found is not None
    assert not name or name in names_in(ast.parse(found.read_text(encoding="utf-8")).body)


def test_it_names_enough_files_to_find_the_way() -> None:
    assert len(FILES) > 30
