"""Check the arguments of a search, and turn them into a `SearchConfig` and a `Workload`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opttune.arguments import LENGTHS, check_numbers, check_space, choose_engine, read_length
from opttune.errors import InputError, one_of, shown
from opttune.guard.rules import Guard
from opttune.references import load_reference
from opttune.space.model import Space
from opttune.space.parse import load_space, shipped_name
from opttune.space.settle import without_trainer_settings
from opttune.storages.study_folder import folder_name
from opttune.study.config import SearchConfig, read_mode
from opttune.trainer.namespaces import is_callback, trainer_arguments
from opttune.training.workload import Workload

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
    check_numbers(seed, budget, trials, timeout)
    length = read_length(max_steps, max_epochs, ends_at_first)
    settings, workload = check_trainer({} if trainer is None else trainer), _read_workload(model, data)
    searched = without_trainer_settings(space if isinstance(space, Space) else load_space(space), settings)
    shipped = shipped_name(space)
    check_space(searched, max_epochs, budget_unit)
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
        if name in LENGTHS:
            raise InputError(f"trainer: {name} is the length of the search itself; give it as {name}, not in trainer.")
        if name in _NOT_FOR_THE_TRAINER and value:
            raise InputError(f"trainer: {name} cannot be combined with a search: {_NOT_FOR_THE_TRAINER[name]}.")
    _check_callbacks(trainer.get("callbacks"))
    return {name: value for name, value in trainer.items() if name not in _NOT_FOR_THE_TRAINER}


def _check_callbacks(given: Any) -> None:
    others = [one for one in (given if isinstance(given, list | tuple) else [given]) if not is_callback(one)]
    if given is not None and others:
        raise InputError(
            f"trainer: callbacks must be Callback objects, got {shown(others[0])}. The command line cannot make them: "
            "give them in Python (opttune.search), or in the config of a project (--config, --hydra)."
        )
