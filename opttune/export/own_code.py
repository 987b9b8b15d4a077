"""Write a recipe for a module's own optimizers, with its factors, as plain torch."""

import re
from collections.abc import Sequence
from typing import Any

from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import InputError
from opttune.export.use import Use
from opttune.recipe import Part, Recipe

_HELPER = '''
def moved(optimizer, lr=1.0, weight_decay=1.0, beta1=1.0, beta2=1.0, momentum=1.0):
    """Return the optimizer, whose options are multiplied in each update; for betas and momentum, 1 / (1 - value) is.

    In between the groups hold your own values, so that schedulers need no change.
    """
    options = ("lr", "weight_decay", "betas", "momentum")
    kept = []

    def longer(decay, factor):
        return max(0.0, 1 - (1 - decay) / factor) if 0 < decay < 1 else decay

    def move():
        kept[:] = [{name: group[name] for name in options if name in group} for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * lr
            if group.get("weight_decay"):
                group["weight_decay"] = group["weight_decay"] * weight_decay
            if "betas" in group:
                first, second, *rest = group["betas"]
                group["betas"] = (longer(first, beta1), longer(second, beta2), *rest)
            if group.get("momentum"):
                group["momentum"] = longer(group["momentum"], momentum)

    def put_back(*_):
        for group, own in zip(optimizer.param_groups, kept):
            group.update(own)
        kept.clear()

    def before_step(_, args, kwargs):
        put_back()
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            move()
            return args, kwargs

        # Lightning runs training_step within the step: it sees your own values
        def with_own_values():
            put_back()
            loss = closure()
            move()
            return loss

        return args[:1], {**kwargs, "closure": with_own_values}

    optimizer.register_step_pre_hook(before_step)
    optimizer.register_step_post_hook(put_back)
    return optimizer
'''


def is_own(recipe: Recipe) -> bool:
    """Return whether a recipe keeps one of the module's own optimizers."""
    return any(find_optimizer(part.name).is_own for part in recipe.optimizer.split())


def own_text(recipe: Recipe, use: Use) -> tuple[str, tuple[str, ...]]:
    """Return a Python file with the changes to the module's own `configure_optimizers`.

    Args:
        recipe: The recipe, whose optimizers are all the module's own.
        use: Its origin and the settings of its training.

    Raises:
        InputError: It also replaces an optimizer or a schedule.
    """
    if not (find_optimizer(recipe.optimizer.name).is_own and find_schedule(recipe.schedule.name).is_own):
        raise InputError(
            f"export: {recipe} keeps one of the module's own optimizers and replaces the others, which needs opttune. "
            "Use --format recipe or lightning-cli."
        )
    comments = [f"# {line}" for line in use.code_comments]
    trainer = f"# pass these to the Trainer: Trainer(**TRAINER)\nTRAINER = {trainer_arguments(recipe, use)!r}"
    parts = recipe.optimizer.split()
    names = ["optimizer"] if len(parts) == 1 else [f"optimizer_{number}" for number in range(len(parts))]
    how = [
        f"#     {name} = moved({name}{arguments})"
        for name, part in zip(names, parts, strict=True)
        if (arguments := _arguments(part))
    ]
    if not how:
        nothing = "# Nothing beats your own optimizer: there is nothing to change."
        return "\n".join(
            [*comments, nothing if recipe.is_baseline else "# Your own optimizer stays.", "", trainer]
        ) + "\n", ()
    of_each = ", for each optimizer" if len(parts) == 1 and len(_own(use.replaced)) > 1 else ""
    lines = [
        *comments,
        *_in_short(parts, use),
        f"# Put the function into the file of {use.class_name or 'your module'}, and at the end of "
        f"configure_optimizers, before it returns{of_each}:",
        *how,
        "# If no scheduler sets the rates, you may multiply them in place instead.",
        "",
        trainer,
    ]
    return "\n".join(lines) + "\n\n" + _HELPER, ()


def trainer_arguments(recipe: Recipe, use: Use) -> dict[str, Any]:
    """Return the arguments of the Trainer that a recipe and its training fix."""
    # under manual optimization the module clips and accumulates itself
    bounds_itself = use.is_manual or find_optimizer(recipe.optimizer.name).own_clipping
    clip = None if bounds_itself else recipe.gradient_clip_norm
    accumulated = 1 if use.is_manual else recipe.accumulate_grad_batches
    return {
        **use.length,
        **({} if clip is None else {"gradient_clip_val": clip}),
        **({} if accumulated == 1 and is_own(recipe) else {"accumulate_grad_batches": accumulated}),
        **({} if recipe.precision is None else {"precision": recipe.precision}),
    }


def _own(words: str) -> list[tuple[str, float | None]]:
    """Return the name and the learning rate of each of a module's own optimizers; None for a rate that is not said.

    Example:
        >>> _own("generator: Adam(lr=0.0002), 1: SGD"), _own("AdamW(lr=0.01..0.1)")
        ([('generator', 0.0002), ('1', None)], [('', None)])
    """
    found = re.findall(r"(?:(\w+): )?[A-Za-z_]\w*(?:\(lr=([\d.e+-]+)\))?(?:, |$)", words)
    return [(name, float(rate) if rate and ".." not in rate else None) for name, rate in found]


def _in_short(parts: Sequence[Part], use: Use) -> list[str]:
    """Return a comment with the new learning rates, if nothing else moves and the module's own rates are known."""
    own = _own(use.replaced)
    factors = [part.get("lr_factor", 1.0) for part in parts] * (len(own) if len(parts) == 1 else 1)
    moved = {name for part in parts for name, value in part.items() if value != 1}
    if not own or moved != {"lr_factor"} or len(own) != len(factors) or any(rate is None for _, rate in own):
        return []
    changes = [
        f"{f'{name}: ' if name else ''}lr {rate:g} becomes {rate * float(factor):g}"
        for (name, rate), factor in zip(own, factors, strict=True)
        if rate is not None and isinstance(factor, int | float) and factor != 1
    ]
    return [f"# In short: {', '.join(changes)}; a scheduler's other rates are multiplied alike."]


def _arguments(part: Part) -> str:
    moved = {name: value for name, value in part.items() if value != 1}
    return "".join(
        f", {name.removesuffix('_factor').removesuffix('_horizon')}={value!r}" for name, value in moved.items()
    )
