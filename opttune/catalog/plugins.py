"""Rows from installed packages, found by the entry points `opttune.optimizers` and `opttune.schedules`."""

import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points

from opttune.catalog.info import Info, OptimizerInfo, ScheduleInfo

_KINDS: dict[str, type[OptimizerInfo] | type[ScheduleInfo]] = {"optimizer": OptimizerInfo, "schedule": ScheduleInfo}


def plugin_rows(kind: str) -> Iterator[tuple[Info, str]]:
    """Yield the rows of installed packages, each with the name of its package.

    An entry point that cannot be loaded, or is not a row, is left out with a warning, because a third-party package
    must not end a search.

    Args:
        kind: `optimizer` or `schedule`.
    """
    for point in sorted(entry_points(group=f"opttune.{kind}s"), key=lambda point: (point.name, point.value)):
        try:
            row = point.load()
        except Exception as err:  # third-party code may raise anything
            leave_out(kind, package_of(point), f"{point.value} cannot be loaded: {type(err).__name__}: {err}")
            continue
        if isinstance(row, _KINDS[kind]):
            yield row, package_of(point)
        else:
            wanted = _KINDS[kind].__name__
            leave_out(kind, package_of(point), f"{point.value} must be of type {wanted}, got {type(row).__name__}")


def package_of(point: EntryPoint) -> str:
    """Return the name of an entry point's package."""
    return point.dist.name if point.dist is not None else "an unnamed package"


def leave_out(kind: str, package: str, why: str) -> None:
    """Warn of a row that is left out."""
    warnings.warn(f"opttune: the {kind} of {package} is left out: {why}.", UserWarning, stacklevel=2)
