"""The laws by which a recipe moves with the length of a training.

- The learning rate is multiplied by `(N / T)^-e` (`algorithms.length_law`), by a factor of `MOST_MOVE` at most, within
  the range of the catalog, and stays below rates that diverged.
- Decoupled weight decay: learning rate and decay set the number of steps of AdamW's average, `1 / (lr wd)`. In
  one pass over the data the best product falls as `T^-0.473` for a given model: `1 / (lr wd T)` falls with the power
  0.527 of tokens per parameter (Bergsma et al. 2025, "Power Lines", https://arxiv.org/abs/2505.13738). In several
  passes the best timescale, counted in epochs, is constant, and so is the product (Wang and Aitchison 2024,
  https://arxiv.org/abs/2405.13698). Both were measured on AdamW; for other decoupled decays they are an analogy. If the
  number of passes is unknown, the two disagree and the decay stays.
- Warmup and all other parts of a schedule are shares of the length and stay shares. Momenta, groups and clipping stay.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from opttune.catalog.info import OptimizerInfo
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.catalog.ranges import SearchRange
from opttune.recipe import Part, Recipe

MOST_MOVE = 3.0
"""The learning rate moves by this factor at most. Chosen by hand."""
ONE_PASS_EXPONENT = 0.473
"""Of the product of learning rate and weight decay over the length, in one pass over the data."""


def product_factor(ratio: float, passes: float | None) -> float | None:
    """Return the factor on the product of learning rate and weight decay; None if it is unknown.

    Args:
        ratio: The new length divided by the searched one.
        passes: The number of passes over the data at the searched length.

    Example:
        >>> round(product_factor(10, 0.1), 3), product_factor(10, 3.0), product_factor(10, None)
        (0.337, 1.0, None)
    """
    if passes is None:
        return None
    within_one_pass = min(1.0, passes * ratio) / min(1.0, passes)
    return float(within_one_pass**-ONE_PASS_EXPONENT)


def rate_factor(ratio: float, exponent: float) -> float:
    """Return the factor on the learning rate.

    Args:
        ratio: The new length divided by the searched one.
        exponent: The power of the length by which the rate falls.

    Example:
        >>> round(rate_factor(10, 0.15), 3), rate_factor(100, 1.0), rate_factor(100, -1.0)
        (0.708, 0.3333333333333333, 3.0)
    """
    return float(min(MOST_MOVE, max(1 / MOST_MOVE, ratio**-exponent)))


def move_recipe(
    recipe: Recipe,
    ratio: float,
    exponent: float,
    passes: float | None,
    ceilings: Mapping[str, float],
    lengths: str = "",
) -> tuple[Recipe, list[str]]:
    """Return a recipe for another length, and the changes with their reasons.

    Args:
        recipe: The recipe.
        ratio: The new length divided by the searched one.
        exponent: The power of the length by which the learning rate falls.
        passes: The number of passes over the data at the searched length; None if it is unknown.
        ceilings: Optimizer -> largest rate to which its rate is raised.
        lengths: The ratio in words, such as `480/48`; empty for the number.
    """
    why = f"multiplied by ({lengths or f'{ratio:g}'})^{-exponent:.3g} = {ratio**-exponent:.2g}"
    parts, reasons = [], []
    for part in recipe.optimizer.split():
        row = find_optimizer(part.name)
        if row.is_own:
            reasons.append("own: your module's optimizer and the factors on it stay; the right change is unknown.")
        elif row.fixed_lr:
            reasons.append(f"{part.name}.lr stays: this optimizer finds its step size itself.")
        else:
            moved = _with_rate(part, row, rate_factor(ratio, exponent), ceilings.get(part.name, inf))
            reasons.append(_change(part, moved, "lr", why) + _bounded(moved, part, ratio, exponent))
            part, why_decay = _with_decay(part, moved, row, product_factor(ratio, passes))
            reasons += why_decay
        parts.append(part)
    if any(find_schedule(part.name).is_own for part in recipe.schedule.split()):
        reasons.append("schedule: own, your module's; make sure that it uses the new length.")
    else:
        reasons.append("schedule: all its parts are shares of the length and stay so; momenta and groups stay.")
    return replace(recipe, optimizer=Part.join(parts)), reasons


def _bounded(moved: Part, part: Part, ratio: float, exponent: float) -> str:
    if part.rate is None or moved.rate is None:
        return ""
    wanted = part.rate * ratio**-exponent
    return "" if abs(moved.rate / wanted - 1) < 1e-3 else f" That would be {wanted:.3g}: a move is bounded."


def _with_rate(part: Part, row: OptimizerInfo, factor: float, ceiling: float) -> Part:
    rate = part.rate
    if rate is None:
        return part
    field = next((option for option in row.options if option.name == "lr"), None)
    search = field.searchable.get("lr") if field else None
    low, high = (search.low, search.high) if isinstance(search, SearchRange) else (0.0, inf)
    # a rate that is already outside moves no further
    moved = min(max(rate * factor, min(low, rate)), max(min(high, ceiling), rate))
    return part.replaced(lr=float(f"{moved:.4g}")) if moved != rate else part


def _with_decay(part: Part, moved: Part, row: OptimizerInfo, product: float | None) -> tuple[Part, list[str]]:
    option = next((option for option in row.options if option.decoupled), None)
    if option is None:
        return moved, []
    decay = part.get(option.name, option.default)
    if not isinstance(decay, int | float) or decay == 0 or part.rate is None or moved.rate is None:
        return moved, []
    if product is None:
        return moved, [f"{part.name}.{option.name} stays: it is not known how often the data are passed over."]
    wanted = decay * product * part.rate / moved.rate
    search = option.searchable.get(option.name)
    if isinstance(search, SearchRange):
        wanted = min(max(wanted, min(search.low, decay)), max(search.high, decay))
    changed = moved.replaced(**{option.name: float(f"{wanted:.4g}")})
    words = "stays the same" if product == 1 else f"is multiplied by {product:.2g}"
    return changed, [_change(part, changed, option.name, f"lr x weight decay {words}")]


def _change(before: Part, after: Part, option: str, why: str) -> str:
    old, new = before.get(option), after.get(option)
    if old == new:
        return f"{before.name}.{option} stays {_number(old)}."
    return f"{before.name}.{option} {_number(old)} -> {_number(new)}: {why}."


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "at its default"
