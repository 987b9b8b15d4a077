"""Recipe files: write a recipe as YAML and read it back, without loss."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from opttune.catalog.check import check_recipe
from opttune.errors import RecipeError, UnknownNameError
from opttune.recipe import Recipe
from opttune.shared_folder import write_whole
from opttune.yaml_text import YamlTextError, read_yaml, write_yaml


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file and check it against the catalog.

    Args:
        path: A YAML file such as the `best_recipe.yaml` of a search.

    Raises:
        RecipeError: The file cannot be read, or a setting in it is invalid.
        UnknownNameError: The catalog has no such optimizer or schedule.
    """
    try:
        document = read_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as err:
        raise RecipeError(f"cannot read the recipe {path}: {err.strerror}.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not a text file in UTF-8.") from None
    except YamlTextError as err:
        raise RecipeError(f"{path}:{err}") from None
    except ValueError as err:  # a zero byte in the path
        raise RecipeError(f"cannot read the recipe {str(path)!r}: {err}.") from None
    try:
        return _checked(document.data)
    except (RecipeError, UnknownNameError) as err:
        line = document.line(_key_at_fault(document.data, str(err)))
        raise type(err)(f"{path}:{line}{str(err).removeprefix('recipe')}") from None


def save_recipe(recipe: Recipe, path: str | Path, header: str = "") -> None:
    """Write a recipe file below the comment lines of `header`, and replace an earlier file in one step."""
    write_whole(Path(path), write_yaml(recipe.to_dict(), header))


def _checked(data: object) -> Recipe:
    recipe = Recipe.from_dict(data)  # type: ignore[arg-type]
    check_recipe(recipe)
    return recipe


def _key_at_fault(data: object, problem: str) -> tuple[str, ...]:
    """Return the first key that raises the same problem without the other keys."""
    for path, smaller in _one_key_each(data):
        try:
            _checked(smaller)
        except (RecipeError, UnknownNameError) as err:
            if str(err) == problem:
                return path
    return ()


def _one_key_each(data: object) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if not isinstance(data, Mapping):
        return
    optimizer, several = data.get("optimizer"), data.get("optimizers")
    needed: dict[str, Any] = {"optimizer": _name_of(optimizer)}
    if isinstance(several, list):
        names = [_name_of(entry) for entry in several]
        yield from _one_of_several("optimizers", several, [{} for _ in names])
        if isinstance(schedules := data.get("schedules"), list):
            yield from _one_of_several("schedules", schedules, [{"optimizer": name} for name in names])
        needed = {"optimizers": names}
    else:
        yield ("optimizer", "name"), needed
    for section, settings in data.items():
        if isinstance(settings, Mapping):
            name = {"name": settings["name"]} if "name" in settings else {}
            yield (section, "name"), {**needed, section: name}
            yield from (((section, key), {**needed, section: {**name, key: settings[key]}}) for key in settings)
        yield (section,), {**needed, section: settings}


def _name_of(part: object) -> Any:
    return part.get("name") if isinstance(part, Mapping) else part


def _one_of_several(
    section: str, entries: list[Any], beside: list[dict[str, Any]]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield each key of an entry as if its optimizer were the only one."""
    for number, (entry, needed) in enumerate(zip(entries, beside, strict=False)):
        kind, name = section.removesuffix("s"), _name_of(entry)
        yield (section, str(number)), {**needed, kind: name}
        for key in entry if isinstance(entry, Mapping) else ():
            yield (section, str(number), str(key)), {**needed, kind: {"name": name, key: entry[key]}}
