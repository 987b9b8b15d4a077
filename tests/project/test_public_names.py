"""What `import opttune` offers."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import opttune
from tests.support.searches import command_env

TESTS = Path(__file__).parents[1]
# what users may import
CONTRACT = {
    "Guard", "GuardCallback", "OptimizerInfo", "OpttunePruner", "OpttuneSampler", "Recipe", "RecipeCallback",
    "ScheduleInfo", "SearchResult", "TrialCallback", "load_recipe", "load_space", "register_optimizer",
    "register_schedule", "search",
}  # fmt: skip


def test_the_names_are_sorted_and_each_is_there() -> None:
    assert opttune.__all__ == sorted(opttune.__all__)
    assert len(set(opttune.__all__)) == len(opttune.__all__)
    assert all(getattr(opttune, name) is not None for name in opttune.__all__)


def test_the_contracts_names_are_offered() -> None:
    assert set(opttune.__all__) >= CONTRACT


def test_what_is_listed_is_what_can_be_seen() -> None:
    assert dir(opttune) == opttune.__all__


def test_every_name_that_loads_late_is_listed() -> None:
    assert {*opttune._HOMES, "__version__"} == set(opttune.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        opttune.serach  # noqa: B018


def test_a_public_class_and_function_says_where_it_is_written() -> None:
    for name, home in opttune._HOMES.items():
        assert getattr(import_module(home), name) is getattr(opttune, name)


def test_search_is_the_function_whatever_was_imported_before() -> None:
    for found in pkgutil.walk_packages(opttune.__path__, "opttune."):
        if not found.name.endswith("__main__"):
            import_module(found.name)

    assert callable(opttune.search)
    assert opttune.search.__name__ == "search"


def test_no_submodule_has_the_name_of_a_public_one() -> None:
    assert not {found.name for found in pkgutil.iter_modules(opttune.__path__)} & set(opttune.__all__)


def test_importing_opttune_loads_nothing_heavy() -> None:
    code = (
        "import sys, opttune; dir(opttune)\n"
        "print(*{'torch', 'lightning', 'pytorch_lightning', 'mlflow', 'optuna', 'rich', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=command_env(), check=True)

    assert done.stdout.strip() == ""


def names_in_tests() -> set[str]:
    """Return every name that the tests use, in code rather than in words."""
    used: set[str] = set()
    for path in TESTS.rglob("*.py"):
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) | ast.keyword(arg=str(name)):
                    used.add(name)
    return used


@pytest.mark.slow
def test_every_public_name_and_every_method_and_property_is_tested() -> None:
    used = names_in_tests()
    public = {name: {name} for name in opttune.__all__}
    for name in opttune.__all__:
        found = getattr(opttune, name)
        if inspect.isclass(found):
            # hooks are called by Lightning and Optuna, as their own base classes say
            inherited = {part for base in found.__mro__[1:] for part in vars(base)}
            parts = {part for part, value in vars(found).items() if callable(value) or isinstance(value, property)}
            public[name] |= {part for part in parts if not part.startswith("_")} - inherited

    untested = {name: parts - used for name, parts in public.items() if parts - used}
    assert not untested
