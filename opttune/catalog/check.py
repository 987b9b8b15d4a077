"""Check a recipe against the catalog: whether its optimizer and its schedule take its options."""

from typing import Any

from opttune.catalog.info import Info, ScheduleInfo
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import RecipeError, UnknownNameError, one_of
from opttune.recipe import Groups, Part, Recipe, Value


def check_recipe(recipe: Recipe, where: str = "recipe") -> None:
    """Refuse a recipe with an unknown name, an unknown option, or a value out of range.

    Args:
        recipe: The recipe to check.
        where: The place that errors name, such as the file.

    Raises:
        UnknownNameError: There is no such optimizer or schedule.
        RecipeError: An option is unknown or out of range; the message lists the allowed options.
    """
    for parts, find in ((recipe.optimizer.split(), find_optimizer), (recipe.schedule.split(), find_schedule)):
        for part in parts:
            try:
                info = find(part.name)
            except UnknownNameError as err:
                raise UnknownNameError(f"{where}: {err}") from None
            _check_part(part, info, where)
    _check_own(recipe, where)


def with_defaults(part: Part, info: Info) -> dict[str, Value]:
    """Return every option of the row: the part's own value if it sets one, else the default."""
    return {option.name: part.get(option.name, option.default) for option in info.options}


def split_warmup(schedule: Part, info: ScheduleInfo) -> tuple[float, dict[str, Value]]:
    """Return a schedule's warmup as a share of the steps, and the options of its shape.

    Example:
        >>> split_warmup(Part("linear", {"warmup_fraction": 0.2}), find_schedule("linear"))
        (0.2, {'final_lr_fraction': 0.0})
    """
    options = with_defaults(schedule, info)
    share: Any = options.pop(info.warmup.name) if info.warmup else 0.0
    return share, options


def _check_own(recipe: Recipe, where: str) -> None:
    """Refuse settings that conflict with a module's own optimizer and schedule."""
    optimizers = recipe.optimizer.split()
    for optimizer, schedule in zip(optimizers, _each(recipe.schedule, len(optimizers)), strict=True):
        if find_schedule(schedule.name).is_own and not find_optimizer(optimizer.name).is_own:
            raise RecipeError(
                f"{where}: schedule {schedule.name!r} belongs to the module's own optimizer, got optimizer "
                f"{optimizer.name!r}. Use optimizer 'own', or a schedule of the catalog."
            )
    if find_optimizer(recipe.optimizer.name).is_own and recipe.groups != Groups():
        raise RecipeError(f"{where}: groups: optimizer 'own' keeps the groups of the module's own optimizer.")


def _each(part: Part, count: int) -> tuple[Part, ...]:
    parts = part.split()
    return parts if len(parts) == count else parts * count


def _check_part(part: Part, info: Info, where: str) -> None:
    options = {option.name: option for option in info.options}
    for key, value in part.items():
        if key not in options:
            raise RecipeError(f"{where}: {info.kind} {part.name!r} takes no {key!r}. {one_of(options, key)}")
        options[key].check(value, f"{where}: {info.kind} {part.name}")
        needed = options[key].needs
        if needed and value and not part.get(needed, options[needed].default):
            raise RecipeError(f"{where}: {info.kind} {part.name}.{key} needs {needed} > 0.")
