"""The house rules: which package may import which, the owners of outside libraries, the length of a function."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "opttune"
FILES = sorted(PACKAGE.rglob("*.py"))

# each row imports only its own packages and those of the rows above it
LAYERS = (
    {"errors", "identity", "recipe", "recipe_groups", "outcome", "job", "trial_record"},  # plain values
    {"references", "yaml_text", "version", "shared_folder"},  # what every package may use
    {"catalog"},  # frozen rows: optimizers, schedules, options, ranges, quirks, sources
    {"space"},  # YAML -> Space -> Recipe
    {"build"},  # Recipe and parameters -> torch objects
    {"trainer"},  # what is known of Lightning's Trainer
    {"guard"},  # when a training is stopped
    {"tracking"},  # MLflow
    {"training"},  # one attempt, in a Trainer -> Outcome
    {"engines"},  # where attempts run: inline, local, Ray
    {"storages"},  # where a study is kept, and which process holds it
    {"algorithms"},  # which recipe to try, and which trial continues
    {"study"},  # what a search is told, and what it gave
    {"runtime", "integration"},  # the loop of a search; a user's own Optuna study
    {"project"},  # a LightningCLI or Hydra project
    {"arguments", "planning", "preview", "provenance", "confirming", "report", "export", "length_transfer"},
    {"api", "answer"},
    {"cli"},
    {"__init__", "__main__"},
)
# which packages may import a library from outside
OWNERS = {
    "argparse": {"cli"},
    "cloudpickle": {"engines", "training"},
    "filelock": {"integration", "runtime", "storages", "tracking"},
    "hydra": {"project"},
    "lightning": {"engines", "integration", "trainer", "training"},
    "lightning_fabric": {"training"},
    "mlflow": {"tracking"},
    "numpy": {"algorithms", "integration", "training"},
    "omegaconf": {"project"},
    "optuna": {"integration", "report", "space", "storages", "study"},
    "pandas": {"study"},
    "pytorch_lightning": {"trainer"},
    "pytorch_optimizer": {"build"},
    "ray": {"engines"},
    "rich": {"cli", "confirming", "runtime"},
    "scipy": {"confirming"},
    "sqlalchemy": {"storages"},
    "vl_convert": {"report"},
    "torch": {"build", "engines", "guard", "trainer", "training"},
    "yaml": {"yaml_text"},
}
# the decisions of a search are functions of values: they touch neither devices, files, servers nor stored studies
DEVICES_AND_STORAGES = (
    "torch",
    "lightning",
    "pytorch_lightning",
    "mlflow",
    "optuna.storages",
    "sqlalchemy",
    "filelock",
)
PURE = (
    *("opttune.algorithms", "opttune.errors", "opttune.space.model", "opttune.space.sample", "numpy"),
    *("bisect", "collections", "dataclasses", "functools", "itertools", "math", "statistics", "typing"),
)
"""What the algorithms may import: no file system, no storage, no training."""
LIGHT = (
    "opttune",
    "opttune.arguments",
    "opttune.cli",
    "opttune.catalog",
    "opttune.space.parse",
    "opttune.storages.study_folder",
)
HEAVY = {"torch", "vl_convert", "scipy", "mlflow", "optuna", "lightning", "pytorch_lightning"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Return every module that a file imports, wherever in it; of `from package import x`, `package.x` if it is one."""
    names: list[str] = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if name in MODULES else str(node.module) for name in inner]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names += [name.value for name in node.args if isinstance(name, ast.Constant)]
    return tuple(names)


def imported_modules(path: Path) -> set[str]:
    """Return the modules of opttune itself that a file imports."""
    return {name for name in imported(path) if name in MODULES}


def imported_with_all_that_follows(module: str) -> Iterator[tuple[str, str]]:
    """Yield each import of a module and of all modules of opttune that it loads, with the module that imports it."""
    loaded, to_read = {module}, [module]
    while to_read:
        reading = to_read.pop()
        for name in imported(MODULES[reading]):
            yield reading, name
            # importing a module runs its package first; opttune itself loads its names late
            steps = name.split(".")
            parents = (".".join(steps[:count]) for count in range(2, len(steps) + 1))
            found = {parent for parent in parents if parent in MODULES} - loaded
            loaded |= found
            to_read += found


def is_within(name: str, libraries: tuple[str, ...]) -> bool:
    return any(name == library or name.startswith(f"{library}.") for library in libraries)


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def layer(module: str) -> int:
    package = package_of(module)
    ranks = [rank for rank, names in enumerate(LAYERS) if package in names]
    assert len(ranks) == 1, f"{module} must be in one layer of LAYERS, is in {len(ranks)}"
    return ranks[0]


def on_a_cycle(edges: dict[str, set[str]]) -> set[str]:
    """Return the nodes that are on a cycle, or lead to one; empty where there is none."""
    while edges:
        # a node without an edge to one that is left cannot be on a cycle
        leaves = {node for node, targets in edges.items() if not targets & edges.keys()}
        if not leaves:
            break
        edges = {node: targets for node, targets in edges.items() if node not in leaves}
    return set(edges)


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


ALGORITHMS = [module for module in MODULES if package_of(module) == "algorithms"]


@pytest.mark.slow
def test_a_module_imports_only_its_own_layer_and_those_before_it() -> None:
    for module, path in MODULES.items():
        above = [name for name in imported(path) if name.split(".")[0] == "opttune" and layer(name) > layer(module)]

        assert not above, f"{module} imports {above} from a layer above its own"


def test_no_modules_import_one_another_in_a_cycle() -> None:
    edges = {module: imported_modules(path) for module, path in MODULES.items()}

    assert not on_a_cycle(edges)


def test_no_packages_import_one_another_in_a_cycle() -> None:
    edges: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        own = package_of(module)
        edges.setdefault(own, set()).update({package_of(name) for name in imported_modules(path)} - {own})

    assert not on_a_cycle(edges)


def test_every_layer_names_packages_that_are_there() -> None:
    assert set().union(*LAYERS) == {package_of(module) for module in MODULES} | {"__init__"}


def test_an_algorithm_decides_on_plain_values_without_files_or_training() -> None:
    for module in ALGORITHMS:
        calls = {ast.unparse(node.func) for node in ast.walk(parse(MODULES[module])) if isinstance(node, ast.Call)}

        assert not [name for name in imported(MODULES[module]) if not is_within(name, PURE)], module
        assert "open" not in calls, module


def test_an_algorithm_loads_neither_torch_nor_mlflow_nor_a_storage() -> None:
    for module in ALGORITHMS:
        found = [
            f"{name} (imported by {importer})"
            for importer, name in imported_with_all_that_follows(module)
            if is_within(name, DEVICES_AND_STORAGES)
        ]
        attributes = {ast.unparse(node) for node in ast.walk(parse(MODULES[module])) if isinstance(node, ast.Attribute)}

        assert not found, module
        assert not [name for name in attributes if is_within(name, DEVICES_AND_STORAGES)], module


def test_nothing_is_imported_for_type_checking_only() -> None:
    # the package itself tells type checkers of the names that it loads late
    files = [path for path in FILES if path != PACKAGE / "__init__.py"]

    assert not [str(path) for path in files if "TYPE_CHECKING" in path.read_text(encoding="utf-8")]


def test_an_outside_library_is_imported_by_its_owners_only() -> None:
    known = {*sys.stdlib_module_names, "opttune"} - OWNERS.keys()
    for module, path in MODULES.items():
        for library in {name.split(".")[0] for name in imported(path)} - known:
            owners = OWNERS.get(library)

            assert owners, f"{module} imports {library}: name the packages that may, in OWNERS"
            assert package_of(module) in owners, f"{module} imports {library}, which belongs to {sorted(owners)}"


def test_every_owner_of_a_library_imports_it() -> None:
    for library, owners in OWNERS.items():
        users = {
            package_of(module)
            for module, path in MODULES.items()
            if library in {name.split(".")[0] for name in imported(path)}
        }

        assert users == owners, library


def test_a_function_has_at_most_40_lines_of_code() -> None:
    for path in FILES:
        source = path.read_text(encoding="utf-8").splitlines()
        counts = {function.name: lines_of_code(function, source) for function in functions(path)}

        assert not {name: count for name, count in counts.items() if count > 40}, path


def test_no_module_is_named_after_nothing() -> None:
    parts = {part for module in MODULES for part in module.split(".")}

    assert not {"utils", "util", "helpers", "helper", "common", "base", "misc"} & parts


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.split() == []
