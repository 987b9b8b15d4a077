"""The length of the new training, and how often it and the searched one pass over the data."""

import re

from opttune.errors import InputError
from opttune.recipe import Recipe
from opttune.study.frozen_study import FrozenStudy

MOST_STRETCH = 100.0
"""Lengths beyond this multiple of the searched length, or below its inverse, are refused."""


def read_steps(given: int | str | None, trained: int) -> int:
    """Return the number of optimizer steps from a number, or from a multiple of the trained steps.

    Example:
        >>> read_steps("5000", 2_000), read_steps("2.5x", 2_000)
        (5000, 5000)
    """
    steps = _read_length(given, trained)
    if steps < 1:
        raise InputError(
            f"--max-steps must be a whole number of optimizer steps > 0, or a multiple of the {trained} searched "
            f"steps such as 10x, got {str(given)!r}."
        )
    return steps


def read_epochs(given: int | str, found: FrozenStudy, trained: int) -> tuple[float, int]:
    """Return the searched and the new length in epochs."""
    searched = _epochs(found, trained)
    if searched is None:
        raise InputError(
            f"--max-epochs: {found.name} was searched for {trained} steps, and it is not known how many an epoch has. "
            "Give --max-steps N, or a multiple such as --max-steps 10x."
        )
    epochs = _read_length(given, searched)
    if epochs < 1:
        raise InputError(
            f"--max-epochs must be a whole number of epochs > 0, or a multiple of the {searched:g} searched epochs "
            f"such as 10x, got {str(given)!r}."
        )
    return searched, epochs


def _read_length(given: int | str | None, searched: float) -> int:
    """Return a length from a number, or from a multiple of the searched one; 0 if it is neither."""
    found = re.fullmatch(r"(\d{1,15})|(\d{1,9}(?:\.\d{1,9})?)x", str(given).strip())
    return 0 if found is None else int(found[1]) if found[1] else round(float(found[2]) * searched)


def refuse_far(flag: str, steps: int, trained: int) -> None:
    """Refuse a length about which the searched one says nothing."""
    if not trained / MOST_STRETCH <= steps <= trained * MOST_STRETCH:
        raise InputError(
            f"{flag}: {steps} is {steps / trained:.3g} times the {trained} searched steps. Nothing is known about "
            f"lengths beyond {MOST_STRETCH:.0f} times or below 1/{MOST_STRETCH:.0f} of it: search at a length "
            "in between (--warm-start takes this study's recipes)."
        )


def _epochs(study: FrozenStudy, steps: int) -> float | None:
    """Return a training's epochs; None for a search whose length was not given so."""
    if set(study.config.length) != {"max_epochs"}:
        return None
    # of equal time, a recipe with costly steps has ended before the last epoch
    return study.config.length["max_epochs"] * steps / study.total_steps


def count_passes(study: FrozenStudy, recipe: Recipe, steps: int) -> float | None:
    """Return the number of a training's passes over the data; None if it is unknown."""
    if (epochs := _epochs(study, steps)) is not None:
        return epochs
    accumulated = study.config.trainer.get("accumulate_grad_batches", 1)
    batches = study.origin.batches
    if not batches or not isinstance(accumulated, int):
        return None
    return steps * max(recipe.accumulate_grad_batches, accumulated) / batches
