"""What opttune knows of Lightning's internals is in one file, which a new version of Lightning is checked against."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import lightning.pytorch
import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / "opttune" / "trainer" / "internals.py"
OTHERS = sorted(set((ROOT / "opttune").rglob("*.py")) - {HOME})
LOOPS = {"fit_loop", "epoch_loop", "val_loop", "validate_loop", "batch_progress", "epoch_progress", "restarting"}


@cache
def private_names() -> frozenset[str]:
    """Return the private attributes of Lightning's objects."""
    folder = Path(lightning.pytorch.__file__).parent
    files = [path.read_text(encoding="utf-8") for path in folder.rglob("*.py")]
    return frozenset(name for text in files for name in re.findall(r"\bself\.(_[a-z]\w*)", text))


def touched(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each attribute of another object that a file touches, `getattr` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def internals(tree: ast.Module) -> list[tuple[int, str]]:
    # left out: a DataLoader's `_iterator`, which is torch's, and a part of an environment variable's name
    known = (LOOPS | private_names()) - {"_iterator", "_version"}
    return [(line, name) for line, name in touched(tree) if name in known]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_touches_lightnings_internals(path: Path) -> None:
    assert not internals(ast.parse(path.read_text(encoding="utf-8")))


def test_the_file_of_internals_touches_them() -> None:
    names = {name for _, name in internals(ast.parse(HOME.read_text(encoding="utf-8")))}
    assert {"fit_loop", "epoch_loop", "_last_train_dl_reload_epoch", "_last_val_dl_reload_epoch"} <= names


def test_it_names_the_lowest_version_that_is_allowed() -> None:
    lowest = re.search(r'"lightning>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert lowest is not None
    assert lowest[1] in (ast.get_docstring(ast.parse(HOME.read_text(encoding="utf-8"))) or "")
