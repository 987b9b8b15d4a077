"""Find, list and register rows of the catalog."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

from opttune.catalog.info import Info, OptimizerInfo, ScheduleInfo
from opttune.catalog.optimizers import OPTIMIZERS
from opttune.catalog.optimizers_own import OWN_OPTIMIZER, OWN_SCHEDULE, join_rows, join_schedules
from opttune.catalog.plugins import leave_out, plugin_rows
from opttune.catalog.schedules import SCHEDULES
from opttune.errors import UnknownNameError, one_of
from opttune.recipe import part_names

Row = TypeVar("Row", bound=Info)


class _Shelf(Generic[Row]):
    """Rows of one kind by name."""

    def __init__(self, kind: str, rows: tuple[Row, ...], join: Callable[[tuple[Row, ...]], Row]) -> None:
        self.kind, self.join = kind, join
        self.rows: dict[str, Row] = {}
        self._joined: dict[str, Row] = {}
        self._knows_plugins = False
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        if len(part_names(row.name)) > 1:
            raise UnknownNameError(f"{self.kind} {row.name!r}: a name cannot contain +, which joins several names.")
        if row.name in self.rows:
            raise UnknownNameError(f"{self.kind} {row.name!r} is already registered; choose another name.")
        self.rows[row.name] = row

    def names(self) -> tuple[str, ...]:
        self._add_plugins()
        return tuple(self.rows)

    def find(self, name: str) -> Row:
        names = part_names(name)
        if len(names) > 1:
            if name not in self._joined:
                self._joined[name] = self.join(tuple(map(self.find, names)))
            return self._joined[name]
        if name not in self.rows:
            # only when needed: a plugin may be slow to import
            self._add_plugins()
        if name not in self.rows:
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}. {one_of(self.rows, name)} See them with: opttune {self.kind}s"
            )
        return self.rows[name]

    def _add_plugins(self) -> None:
        if self._knows_plugins:
            return
        self._knows_plugins = True
        for row, package in plugin_rows(self.kind):
            known = self.rows.get(row.name)
            if known is None:
                self.rows[row.name] = cast(Row, row)
            elif known != row:
                leave_out(self.kind, package, f"the name {row.name!r} is taken")


_SHIPPED_OPTIMIZERS, _SHIPPED_SCHEDULES = (OWN_OPTIMIZER, *OPTIMIZERS), (OWN_SCHEDULE, *SCHEDULES)
_OPTIMIZERS: _Shelf[OptimizerInfo] = _Shelf("optimizer", _SHIPPED_OPTIMIZERS, join_rows)
_SCHEDULES: _Shelf[ScheduleInfo] = _Shelf("schedule", _SHIPPED_SCHEDULES, join_schedules)


def find_optimizer(name: str) -> OptimizerInfo:
    """Return the optimizer with this name; `own+adamw` joins a module's optimizers, one part for each.

    Raises:
        UnknownNameError: There is no such optimizer; the message gives the nearest name.

    Example:
        >>> find_optimizer("adamw").class_path
        'torch.optim.AdamW'
    """
    return _OPTIMIZERS.find(name)


def find_schedule(name: str) -> ScheduleInfo:
    """Return the schedule with this name.

    Raises:
        UnknownNameError: There is no such schedule; the message gives the nearest name.
    """
    return _SCHEDULES.find(name)


def optimizer_names() -> tuple[str, ...]:
    """Return the names of all optimizers, in the catalog's order."""
    return _OPTIMIZERS.names()


def schedule_names() -> tuple[str, ...]:
    """Return the names of all schedules, in the catalog's order."""
    return _SCHEDULES.names()


def register_optimizer(info: OptimizerInfo) -> None:
    """Add an optimizer of your own to the catalog.

    Args:
        info: Its row; the class is built as `cls(parameter_groups, **options, **info.fixed)`.

    Raises:
        UnknownNameError: The name is taken.

    Example:
        >>> import torch
        >>> from opttune.catalog import OptionInfo
        >>> register_optimizer(
        ...     OptimizerInfo(
        ...         name="adagrad",
        ...         class_path=torch.optim.Adagrad,
        ...         summary="gradients over the root of their summed squares",
        ...         options=(OptionInfo("lr", 1e-2, low=0, excluded="low"),),
        ...         source="Duchi et al. 2011",
        ...     )
        ... )
        >>> find_optimizer("adagrad").summary
        'gradients over the root of their summed squares'
    """
    _OPTIMIZERS.add(info)


def registered_rows() -> tuple[Info, ...]:
    """Return the registered optimizers and schedules, without the shipped ones."""
    shipped = {id(row) for row in (*_SHIPPED_OPTIMIZERS, *_SHIPPED_SCHEDULES)}
    rows: tuple[Info, ...] = (*_OPTIMIZERS.rows.values(), *_SCHEDULES.rows.values())
    return tuple(row for row in rows if id(row) not in shipped)


def add_missing(rows: Iterable[Info]) -> None:
    """Register rows from another process, except rows whose names are already taken."""
    for row in rows:
        if isinstance(row, OptimizerInfo) and row.name not in _OPTIMIZERS.rows:
            _OPTIMIZERS.add(row)
        elif isinstance(row, ScheduleInfo) and row.name not in _SCHEDULES.rows:
            _SCHEDULES.add(row)


def register_schedule(info: ScheduleInfo) -> None:
    """Add a schedule of your own to the catalog.

    Args:
        info: Its row; `info.shape(progress, **options)` returns the factor after the warmup.

    Raises:
        UnknownNameError: The name is taken.
    """
    _SCHEDULES.add(info)
