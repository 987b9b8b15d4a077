"""What `import opttune` offers."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import opttune
from tests.support.searches import command_env

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
