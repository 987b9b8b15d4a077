"""Checks of a search's arguments that need no torch: the command makes them before it loads anything slow."""

from math import isfinite

from opttune.errors import InputError, one_of
from opttune.space.model import Fixed, Space

_ENGINES = ("inline", "local", "ray")
LENGTHS = ("max_steps", "max_epochs")
_UNITS = ("steps", "time")


def choose_engine(engine: str | None, workers: int) -> str:
    """Return the engine for that many trainings at a time; None chooses."""
    _check_count("workers", workers)
    if engine is None:
        return "inline" if workers == 1 else "local"
    if engine not in _ENGINES:
        raise InputError(f"unknown engine {engine!r}. {one_of(_ENGINES, str(engine))}")
    if engine == "inline" and workers != 1:
        raise InputError(
            f"the engine inline trains one at a time: workers must be 1, got {workers!r}. "
            "The engine local trains several (--engine local)."
        )
    return engine


def _check_seed(seed: int) -> None:
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to 4294967295, got {seed!r}.")


def _check_count(name: str, count: int | None) -> None:
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise InputError(f"{name} must be a whole number >= 1, got {count!r}.")


def check_numbers(seed: int, budget: float, trials: int | None, timeout: float | None) -> None:
    """Refuse a seed or a limit of a search that cannot be used.

    Raises:
        InputError: One of them is out of its range.
    """
    _check_seed(seed)
    _check_count("trials", trials)
    if not isinstance(budget, int | float):
        raise InputError(f"budget must be a number of full trainings, got the {type(budget).__name__} {budget!r}.")
    if not isfinite(budget) or budget < 1:
        raise InputError(
            f"budget must be at least 1 full training, which pays for one recipe, got {budget!r}: from 1.5 on recipes "
            "are compared, and from 2 on (3 in trainings of 1,000 steps and more) the baseline is trained too."
        )
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise InputError(f"timeout must be > 0 seconds, got {timeout!r}.")


def read_length(max_steps: int | None, max_epochs: int | None, ends_at_first: bool) -> dict[str, int]:
    """Return the given length of a training.

    Args:
        max_steps: Optimizer steps.
        max_epochs: Epochs.
        ends_at_first: Whether both may be given.

    Raises:
        InputError: It is no whole number, or neither or both are given.
    """
    lengths = dict(zip(LENGTHS, (max_steps, max_epochs), strict=True))
    for name, count in lengths.items():
        _check_count(name, count)
    if (max_steps is None) == (max_epochs is None) and not (max_steps and ends_at_first):
        got = "neither" if max_steps is None else "both"
        raise InputError(
            f"give the full length of one training as either max_steps or max_epochs, got {got}. "
            "On the command line: --max-steps N or --max-epochs N."
        )
    return {name: count for name, count in lengths.items() if count is not None}


def check_space(space: Space, max_epochs: int | None, unit: str) -> None:
    """Refuse a space that varies the length of a step, if the length or the budget depends on it.

    Raises:
        InputError: It does, or there is no such unit.
    """
    _check_unit(space, unit)
    varies = any(name == "accumulate_grad_batches" and not isinstance(field, Fixed) for name, field in space.training)
    if varies and max_epochs is not None:
        raise InputError(
            f"the space {space.name} varies accumulate_grad_batches, which changes the number of steps in an epoch: "
            "give the length as max_steps, so that all trainings have the same length."
        )


def _check_unit(space: Space, unit: str) -> None:
    if unit not in _UNITS:
        raise InputError(f"unknown budget_unit {unit!r}. {one_of(_UNITS, str(unit))}")
    varied = [
        name
        for name, field in space.training
        if name in ("accumulate_grad_batches", "precision") and not isinstance(field, Fixed)
    ]
    if unit == "time" and varied:
        raise InputError(
            f"the space {space.name} varies {' and '.join(varied)}, which changes the time of a step from trial to "
            "trial: leave it out of the space and set it in trainer (--trainer), or count the budget in "
            "steps (--budget-unit steps)."
        )
