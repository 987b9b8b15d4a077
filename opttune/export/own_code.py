"""Write a recipe that moves the rates of a module's own optimizers as plain torch."""

from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import InputError
from opttune.export.use import Use
from opttune.recipe import Part, Recipe

_HELPER = '''
def moved(optimizer, lr=1.0, weight_decay=1.0, beta1=1.0, beta2=1.0, momentum=1.0):
    """Return the optimizer, whose options are multiplied in each step; of decay rates 1 / (1 - rate) is.

    In between the groups hold your own values, so that schedulers need no change.
    """
    kept = []

    def longer(decay, factor):
        return max(0.0, 1 - (1 - decay) / factor) if 0 < decay < 1 else decay

    def before_step(*_):
        kept[:] = [dict(group) for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * lr
            if group.get("weight_decay"):
                group["weight_decay"] = group["weight_decay"] * weight_decay
            if "betas" in group:
                first, second, *rest = group["betas"]
                group["betas"] = (longer(first, beta1), longer(second, beta2), *rest)
            if "momentum" in group:
                group["momentum"] = longer(group["momentum"], momentum)

    def after_step(*_):
        for group, own in zip(optimizer.param_groups, kept):
            group.update({name: value for name, value in own.items() if name != "params"})

    optimizer.register_step_pre_hook(before_step)
    optimizer.register_step_post_hook(after_step)
    return optimizer
'''


def is_own(recipe: Recipe) -> bool:
    """Return whether a recipe keeps an optimizer of the module's own."""
    return any(find_optimizer(part.name).is_own for part in recipe.optimizer.split())


def own_text(recipe: Recipe, use: Use) -> tuple[str, tuple[str, ...]]:
    """Return a Python file that says what to change in the module's own `configure_optimizers`.

    Args:
        recipe: The recipe, whose optimizers are all the module's own.
        use: Its origin and the settings of its training.

    Raises:
        InputError: It replaces an optimizer or a schedule as well.
    """
    if not (find_optimizer(recipe.optimizer.name).is_own and find_schedule(recipe.schedule.name).is_own):
        raise InputError(
            f"export: {recipe} keeps one of the module's own optimizers beside what replaces the rest, which needs "
            "opttune. Use --format recipe or lightning-cli."
        )
    comments = [f"# {line}" for line in use.comments[: 2 if use.length else 1]]
    if recipe.is_baseline:
        lines = [*comments, "# Nothing beats your own optimizer: there is nothing to change."]
        return "\n".join(lines) + "\n", ()
    parts = recipe.optimizer.split()
    how = [
        f"#     optimizer{'' if len(parts) == 1 else f'_{number}'} = "
        f"moved(optimizer{'' if len(parts) == 1 else f'_{number}'}{_arguments(part)})"
        for number, part in enumerate(parts)
        if _arguments(part)
    ]
    lines = [
        *comments,
        "# Put the function into your module's file, and at the end of configure_optimizers, before it returns:",
        *how,
        "# Where no scheduler sets the rates, you may multiply them in place instead.",
    ]
    return "\n".join(lines) + "\n\n" + _HELPER, ()


def _arguments(part: Part) -> str:
    moved = {name: value for name, value in part.items() if value != 1}
    return "".join(
        f", {name.removesuffix('_factor').removesuffix('_horizon')}={value!r}" for name, value in moved.items()
    )
