"""The user's earlier trainings, with their settings and values: the best of each optimizer become priors.

They are rows of a CSV file or runs of an MLflow experiment. Their columns are matched with the fields of a recipe by
name. The result is the same as for a warm start from an earlier study (`EarlierBest`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite, log2
from pathlib import Path

from opttune.catalog.info import Info
from opttune.catalog.lookup import find_optimizer, find_schedule, optimizer_names, schedule_names
from opttune.errors import InputError
from opttune.space.model import Scalar
from opttune.space.settle import EarlierBest
from opttune.study.csv_rows import read_csv_rows
from opttune.tracking.reading import read_experiment

_WHERE = "learn_from (--learn-from)"
_ALIASES = {
    "learning_rate": "lr",
    "base_lr": "lr",
    "wd": "weight_decay",
    "gradient_clip_val": "gradient_clip_norm",
    "warmup_ratio": "warmup_fraction",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "steps": "max_steps",
    "optim": "optimizer",
    "status": "state",
}
_OF_THE_TRAINING = ("gradient_clip_norm", "accumulate_grad_batches")
_OPTIMIZERS = {"optimizer", "optim"}
_SCHEDULES = {"schedule", "scheduler", "lr_scheduler"}
_TRAININGS = {"train", "training", "trainer", "fit", "config", "cfg", "hparams", "params", "args", "init_args"}
_MODELS = {"model", "module"}
"""Parts of a column's name that hold settings of a recipe; others, such as `net`, hold settings of their own."""
_UNFINISHED = {
    *("crashed", "failed", "fail", "error", "killed", "pruned", "preempted", "canceled", "cancelled"),
    *("running", "pending", "queued", "waiting"),
}
Row = Mapping[str, str | float]
"""The columns of one training, by the user's names."""


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """One usable earlier training.

    Attributes:
        found: Its settings and value.
        steps: Its optimizer steps; None for the full length, if no column has them.
    """

    found: EarlierBest
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class EarlierRuns:
    """The earlier trainings that were read.

    Attributes:
        runs: The usable trainings.
        notes: The used and unused trainings, with the reasons, one sentence each.
    """

    runs: tuple[EarlierRun, ...] = ()
    notes: tuple[str, ...] = ()

    def best(self, total_steps: int, mode: str) -> list[EarlierBest]:
        """Return each optimizer's best training among those nearest to the full length, the best first.

        Args:
            total_steps: Optimizer steps of the full length.
            mode: `min` or `max`.
        """
        sign = 1.0 if mode == "min" else -1.0
        # values of other lengths cannot be compared with one another
        ranked = sorted(self.runs, key=lambda one: (_apart(one.steps, total_steps), sign * one.found.value))
        best: dict[str, EarlierBest] = {}
        for one in ranked:
            best.setdefault(one.found.optimizer, one.found)
        return list(best.values())


def read_earlier_runs(text: str | Path, monitor: str, tracking_uri: str) -> EarlierRuns:
    """Read earlier trainings.

    Args:
        text: The name of an MLflow experiment, or the path of a CSV file with a row for each training.
        monitor: The column, or the metric, whose value at the end counts; a file may call it `value`.
        tracking_uri: Address of MLflow.

    Raises:
        InputError: There is no such file or experiment, or none of its trainings can be used.
    """
    path = Path(text)
    rows: Sequence[Row]
    logged: set[str] = set()
    if path.suffix.lower() == ".csv" or path.is_file():
        name, read = f"the file {path}", read_csv_rows(path, _WHERE)
        # a logger wrote train/lr during the training; of an experiment, only settings are read
        logged = {column for row in read for column in row if column.lower().startswith(("train/", "training/"))}
        rows = [{column: cell for column, cell in row.items() if column not in logged} for row in read]
    else:
        try:
            name, rows = f"the experiment {text!r}", [*read_experiment(tracking_uri, str(text), (monitor, "value"))]
        except LookupError as err:
            raise InputError(f"{_WHERE}: {err.args[0]} Give the name of an experiment, or a CSV file.") from None
    runs, unused = _usable(rows, monitor, name)
    notes = [f"Not used of {name}: {_trainings(count)} {why}." for why, count in unused.items()]
    if not runs:
        raise InputError(
            f"{_WHERE}: {name} has no usable training. {' '.join(notes) or 'It is empty.'} A training "
            f"needs an optimizer, a learning rate (lr) and a value ({monitor})."
        )
    known = _known_fields()
    columns = {column for row in rows for column in row if _plain(column) not in (_plain(monitor), "value")}
    if ignored := sorted(logged | {column for column in columns if _field(column) not in known}):
        notes.append(f"Not used of {name}: the columns {', '.join(ignored)}, which are not fields of a recipe.")
    schedules = {str(cell) for row in rows for column, cell in row.items() if cell and _field(column) == "schedule"}
    if unknown := sorted(each for each in schedules if _name(each, schedule_names()) is None):
        notes.append(f"Not used of {name}: the schedules {', '.join(unknown)}, which are not in the catalog.")
    return EarlierRuns(tuple(runs), (f"Learned from {_trainings(len(runs))} of {name}.", *notes))


def _usable(rows: Iterable[Row], monitor: str, name: str) -> tuple[list[EarlierRun], Counter[str]]:
    runs: list[EarlierRun] = []
    unused: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        read = _run_of(row, monitor, f"training {number} of {name}")
        if isinstance(read, str):
            unused[read] += 1
        else:
            runs.append(read)
    return runs, unused


def _run_of(row: Row, monitor: str, origin: str) -> EarlierRun | str:
    """Return the training of a row, which notes call `origin`, or the reason why it is not used."""
    plain = {_plain(column): cell for column, cell in row.items()}
    value = _number(row.get(monitor, plain.get(_plain(monitor), plain.get("value"))))
    if value is None:
        return f"without a finite {monitor}"
    # optimizer.lr counts more than lr, and that more than model.lr: the last one counts
    columns = sorted(row, key=lambda column: (_rank(column), column))
    fields = {_field(column): row[column] for column in columns if row[column] != ""}
    if (state := str(fields.get("state", "")).rpartition(".")[2].lower()) in _UNFINISHED:
        return f"not finished ({state})"
    optimizer = _name(fields.get("optimizer"), optimizer_names())
    if optimizer is None:
        return f"with an optimizer that is not in the catalog ({fields.get('optimizer') or 'none named'})"
    if (_number(fields.get("lr")) or 0.0) <= 0 and "lr" in _options(find_optimizer(optimizer)):
        return "without a learning rate (lr)"
    schedule = _name(fields.get("schedule"), schedule_names()) or ""
    parameters = _parameters(fields, optimizer, _options(find_optimizer(optimizer)))
    if schedule:
        parameters |= _parameters(fields, schedule, _options(find_schedule(schedule)))
    parameters |= {name: number for name in _OF_THE_TRAINING if (number := _number(fields.get(name))) is not None}
    steps = _number(fields.get("max_steps"))
    found = EarlierBest(optimizer, schedule, parameters, value, origin)
    # Lightning's -1 is no limit
    return EarlierRun(found, None if steps is None or steps < 1 else int(steps))


def _parameters(fields: Row, branch: str, names: Iterable[str]) -> dict[str, Scalar]:
    return {f"{branch}.{name}": number for name in names if (number := _number(fields.get(name))) is not None}


def _options(row: Info) -> list[str]:
    return [name for option in row.options for name in option.fields]


def _known_fields() -> set[str]:
    of_optimizers = {name for row in map(find_optimizer, optimizer_names()) for name in _options(row)}
    return {*of_optimizers, *_schedule_fields(), *_OF_THE_TRAINING, "optimizer", "max_steps", "state"}


@cache
def _schedule_fields() -> set[str]:
    return {"schedule", *(name for row in map(find_schedule, schedule_names()) for name in _options(row))}


def _plain(column: str) -> str:
    return re.sub(r"[ -]+", "_", column.lower())


def _parts(column: str) -> list[str]:
    return re.split(r"[./]", _plain(column))


def _field(column: str) -> str:
    """Return the field of a recipe that a column names; empty if it is a setting of something else.

    Example:
        >>> _field("model.optimizer.lr"), _field("Learning Rate"), _field("optimizer.name")
        ('lr', 'lr', 'optimizer')
        >>> _field("model.net.momentum"), _field("lr_scheduler.lr"), _field("model.steps")
        ('', '', '')
    """
    *holders, last = _parts(column)
    if last in ("name", "_target_", "class_path") and holders:
        last = holders.pop()
    field = _ALIASES.get(last, last)
    if not _OPTIMIZERS.union(_SCHEDULES, _TRAININGS, _MODELS).issuperset(holders):
        return ""
    if not _SCHEDULES.isdisjoint(holders):
        return field if field in _schedule_fields() else ""
    # a model's steps are not those of the training
    return "" if field == "max_steps" and not _MODELS.union(_OPTIMIZERS).isdisjoint(holders) else field


def _rank(column: str) -> int:
    """Return how closely a column belongs to the recipe."""
    *holders, _ = _parts(column)
    if not _OPTIMIZERS.union(_SCHEDULES).isdisjoint(holders):
        return 3
    return 2 if not holders else int(_MODELS.isdisjoint(holders))


def _trainings(count: int) -> str:
    return "1 training" if count == 1 else f"{count} trainings"


def _name(cell: str | float | None, names: Sequence[str]) -> str | None:
    """Return the name in the catalog; a class is named without its package."""
    plain = str(cell or "").rpartition(".")[2].lower().replace("-", "_")
    return next((name for name in names if plain in (name, name.replace("_", ""))), None)


def _number(cell: str | float | None) -> float | None:
    try:
        number = float(cell) if cell is not None else float("nan")
    except ValueError:
        return None
    return number if isfinite(number) else None


def _apart(steps: int | None, total_steps: int) -> int:
    """Return how far apart two lengths are, in steps of a quarter; about equal ones can be compared."""
    return 0 if steps is None else round(3 * abs(log2(steps / total_steps)))
