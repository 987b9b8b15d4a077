"""The house, walked: who may import whom, who owns which library, how large a file and a function may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "opttune"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {
        "errors",
        "recipe",
        "recipe_groups",
        "outcome",
        "trial_record",
        "references",
        "yaml_text",
        "version",
        "shared_folder",
    },
    {"catalog"},
    {"space"},
    {"build"},
    {"trainer"},
    {"guard"},
    {"tracking"},
    {"training"},
    {"engines"},
    {"storages"},
    {"algorithms"},
    {"study"},
    {"runtime", "integration"},
    {"project"},
    {"planning", "preview", "provenance", "confirming", "report", "export"},
    {"api", "answer"},
    {"cli"},
    {"__init__", "__main__"},
)
OWNERS = {
    "mlflow": ("opttune.tracking",),
    "yaml": ("opttune.yaml_text",),
    "optuna": (
        "opttune.space.sample",
        "opttune.storages",
        "opttune.algorithms",
        "opttune.study",
        "opttune.runtime",
        "opttune.integration",
        "opttune.report.recipes",
    ),
    "ray": ("opttune.engines.ray", "opttune.engines.ray_task"),
    "argparse": ("opttune.cli",),
    "vl_convert": ("opttune.report.draw",),
    "scipy": ("opttune.confirming.statistics",),
}
LIGHT = ("opttune", "opttune.cli", "opttune.catalog", "opttune.space.parse")
HEAVY = {"torch", "vl_convert", "scipy", "mlflow", "optuna", "lightning", "pytorch_lightning"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it; of `from package import x`, `package.x` if it is one."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else "__init__"
    ranks = [rank for rank, names in enumerate(LAYERS) if part in names]
    assert ranks, f"{module} stands in no layer: put it into one"
    return ranks[0]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef, source: list[str]) -> int:
    docstring = set()
    if ast.get_docstring(function, clean=False) is not None:
        docstring = set(range(function.body[0].lineno, (function.body[0].end_lineno or 0) + 1))
    numbers = [n for n in range(function.lineno, (function.end_lineno or 0) + 1) if n not in docstring]
    texts = [source[number - 1].strip() for number in numbers]
    return sum(bool(text) and not text.startswith("#") for text in texts)


every_file = pytest.mark.parametrize("path", FILES, ids=module_name)


@every_file
def test_a_module_imports_only_its_own_layer_and_those_below(path: Path) -> None:
    module = module_name(path)
    above = [name for name in imported(path) if name.split(".")[0] == "opttune" and layer(name) > layer(module)]

    assert not above, f"{module} imports {above} from a layer above its own"


def test_tracking_knows_neither_training_nor_studies() -> None:
    known = {
        name for module, path in MODULES.items() if module.startswith("opttune.tracking") for name in imported(path)
    }

    assert not [
        name
        for name in known
        if name.startswith(("opttune.training", "opttune.storages", "opttune.study", "opttune.runtime"))
    ]


def test_no_module_imports_itself_in_a_circle() -> None:
    edges = {module: {name for name in imported(path) if name in MODULES} for module, path in MODULES.items()}
    while edges:
        # a module that imports nothing that is left cannot be part of a circle
        leaves = {module for module, names in edges.items() if not names & edges.keys()}
        assert leaves, f"these import one another in a circle: {sorted(edges)}"
        edges = {module: names for module, names in edges.items() if module not in leaves}


@every_file
def test_nothing_is_imported_for_type_checking_only(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(parse(path))}

    assert "TYPE_CHECKING" not in names


@every_file
def test_an_outside_library_is_imported_by_its_owner_only(path: Path) -> None:
    module = module_name(path)
    for name in imported(path):
        owners = OWNERS.get(name.split(".")[0], (module,))
        assert module.startswith(owners), f"{module} imports {name}, which belongs to {' and '.join(owners)}"


@every_file
def test_a_function_has_at_most_40_lines_of_code(path: Path) -> None:
    source = path.read_text(encoding="utf-8").splitlines()
    long = {function.name: lines_of_code(function, source) for function in functions(path)}

    assert not {name: count for name, count in long.items() if count > 40}


@every_file
def test_no_module_is_named_after_nothing(path: Path) -> None:
    assert not {"utils", "util", "helpers", "helper", "common", "base", "misc"} & set(module_name(path).split("."))


@pytest.mark.parametrize("module", [module for module in LIGHT if module in MODULES])
def test_a_light_module_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.split() == []
