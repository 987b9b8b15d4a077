"""Check the arguments of a search, and turn them into a `SearchConfig` and a `Workload`."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from opttune.errors import InputError, one_of
from opttune.guard.rules import Guard
from opttune.references import load_reference
from opttune.space.model import Fixed, Space
from opttune.space.parse import load_space, shipped_name
from opttune.space.settle import without_trainer_settings
from opttune.storages.find_study import folder_name
from opttune.study.config import SearchConfig, read_mode
from opttune.trainer.namespaces import trainer_arguments
from opttune.training.workload import Workload

_ENGINES = ("inline", "local", "ray")
_LENGTHS = ("max_steps", "max_epochs")
_UNITS = ("steps", "time")
_NOT_FOR_THE_TRAINER = {
    "fast_dev_run": "its length is max_steps or max_epochs",
    "max_time": "its length is max_steps or max_epochs",
    "barebones": "with it self.log does nothing, so there is no value to compare",
}


def make_plan(
    model: Any,
    data: Any = None,
    *,
    space: str | Path | Space,
    monitor: str,
    mode: str,
    max_steps: int | None,
    max_epochs: int | None,
    budget: float,
    trials: int | None,
    timeout: float | None,
    workers: int,
    engine: str | None,
    study: str | None,
    out_dir: str | Path | None,
    seed: int,
    guard: Guard | bool | None,
    baseline: bool,
    trainer: Mapping[str, Any] | None,
    pauses: bool = True,
    budget_unit: str = "steps",
    ends_at_first: bool = False,
) -> tuple[SearchConfig, Workload]:
    """Check the arguments of `opttune.search` and combine them.

    With `ends_at_first` both lengths may be given, as in a project's config: a training ends at the first of them.

    Raises:
        OpttuneError: An argument cannot be used.
    """
    _check_numbers(seed, budget, trials, timeout)
    length = _length(max_steps, max_epochs, ends_at_first)
    settings, workload = check_trainer({} if trainer is None else trainer), _read_workload(model, data)
    searched = without_trainer_settings(space if isinstance(space, Space) else load_space(space), settings)
    shipped = shipped_name(space)
    _check_space(searched, max_epochs, budget_unit)
    name = study or f"{workload.name}-{shipped or searched.name}"
    folder = Path("opttune_runs", folder_name(name)) if out_dir is None else Path(out_dir)
    config = SearchConfig(
        space=searched, monitor=monitor, mode=read_mode(mode), length=length, study_name=name,
        out_dir=folder, budget=budget, most_trials=trials, timeout_seconds=timeout, seed=seed,
        workers=workers, engine=choose_engine(engine, workers), guard=Guard.of(guard), with_baseline=baseline,
        trainer=settings, pauses=pauses, shipped_space=shipped, budget_unit=budget_unit,
    )  # fmt: skip
    return config, workload


def _read_workload(model: Any, data: Any) -> Workload:
    """Return the model and the data; text references, as on the command line, are loaded."""
    texts = [thing if isinstance(thing, str) else "" for thing in (model, data)]
    loaded = [
        load_reference(text, what) if text else thing
        for text, thing, what in zip(texts, (model, data), ("MODEL", "DATA"), strict=True)
    ]
    return Workload(*loaded, *texts)


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


def _check_numbers(seed: int, budget: float, trials: int | None, timeout: float | None) -> None:
    _check_seed(seed)
    _check_count("trials", trials)
    if not isinstance(budget, int | float) or not isfinite(budget) or budget < 1:
        raise InputError(
            f"budget must be at least 1 full training, which pays for one recipe, got {budget!r}: from 1.5 on recipes "
            "are compared, and from 2 on the baseline is trained too."
        )
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise InputError(f"timeout must be > 0 seconds, got {timeout!r}.")


def _length(max_steps: int | None, max_epochs: int | None, ends_at_first: bool) -> dict[str, int]:
    lengths = dict(zip(_LENGTHS, (max_steps, max_epochs), strict=True))
    for name, count in lengths.items():
        _check_count(name, count)
    if (max_steps is None) == (max_epochs is None) and not (max_steps and ends_at_first):
        got = "neither" if max_steps is None else "both"
        raise InputError(
            f"give the full length of one training as either max_steps or max_epochs, got {got}. "
            "On the command line: --max-steps N or --max-epochs N."
        )
    return {name: count for name, count in lengths.items() if count is not None}


def _check_space(space: Space, max_epochs: int | None, unit: str) -> None:
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


def check_trainer(trainer: Any) -> dict[str, Any]:
    """Return the checked arguments of a Trainer for a search or a verdict.

    Raises:
        InputError: They are not a dict, or one of them is invalid.
    """
    if not isinstance(trainer, Mapping):
        raise InputError(
            f"trainer must be a dict of the Trainer's arguments, such as {{'accelerator': 'cpu'}}, got a "
            f"{type(trainer).__name__}: each training makes its own Trainer from them."
        )
    known = trainer_arguments()
    for name, value in trainer.items():
        if name not in known:
            raise InputError(f"trainer: the Trainer has no argument {name!r}. {one_of(known, str(name))}")
        if name in _LENGTHS:
            raise InputError(f"trainer: {name} is the length of the search itself; give it as {name}, not in trainer.")
        if name in _NOT_FOR_THE_TRAINER and value:
            raise InputError(f"trainer: {name} cannot be combined with a search: {_NOT_FOR_THE_TRAINER[name]}.")
    return {name: value for name, value in trainer.items() if name not in _NOT_FOR_THE_TRAINER}
