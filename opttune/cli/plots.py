"""Plots of schedules."""

from pathlib import Path

from opttune.build.schedule import has_curve, multiplier
from opttune.catalog.lookup import find_schedule, schedule_names
from opttune.errors import InputError
from opttune.recipe import Part
from opttune.report.chart import PALETTE, Chart, Panel, Series
from opttune.report.draw import SUFFIXES, save_chart

DEFAULT_STEPS = 1000
WARMUP = 0.1
"""Share of the training in the second curve of an image of one schedule."""


def plot_schedule(name: str, path: str | Path, steps: int = DEFAULT_STEPS) -> None:
    """Draw a schedule with its default options, with and without warmup if it takes one.

    Args:
        name: Name in the catalog.
        path: File to write; its suffix names the format.
        steps: Optimizer steps of the training, >= 1.

    Raises:
        UnknownNameError: There is no such schedule.
        RecipeError: Its curve depends on the monitored metric.
        InputError: `steps` is too small, or the file cannot be written.
    """
    _save(schedule_chart(name, steps), path)


def plot_all_schedules(path: str | Path, steps: int = DEFAULT_STEPS) -> None:
    """Draw every schedule that does not follow a metric, each in a panel, with its default options.

    Args:
        path: File to write; its suffix names the format.
        steps: Optimizer steps of the training, >= 1.

    Raises:
        InputError: `steps` is too small, or the file cannot be written.
    """
    names = [name for name in schedule_names() if has_curve(find_schedule(name))]
    panels = [_panel([_curve(Part(name), steps, "learning rate", PALETTE[0])], title=name) for name in names]
    _save(Chart("schedules", "The schedules with their default options", "", panels), path)


def schedule_chart(name: str, steps: int) -> Chart:
    """Return the chart of one schedule; the arguments and errors are those of `plot_schedule`."""
    info = find_schedule(name)
    curves = [_curve(Part(name), steps, "with its default options", PALETTE[0])]
    if info.warmup is not None:
        warmed = Part(name, {info.warmup.name: WARMUP})
        curves.append(_curve(warmed, steps, f"with {info.warmup.name} {WARMUP:g}", PALETTE[1]))
    return Chart(name, f"{name}: {info.summary}", "", [_panel(curves)])


def _panel(curves: list[Series], title: str = "") -> Panel:
    return Panel("share of the training", "share of the peak learning rate", curves, title=title, y_range=(0.0, 1.05))


def _curve(schedule: Part, steps: int, name: str, colour: str) -> Series:
    if steps < 1:
        raise InputError(f"--steps must be a whole number >= 1, got {steps}.")
    factor = multiplier(schedule, steps)
    # the last step's rate lasts until the training ends
    factors = [factor(min(step, steps - 1)) for step in range(steps + 1)]
    return Series(name, [step / steps for step in range(steps + 1)], factors, "steps", colour)


def _save(chart: Chart, path: str | Path) -> None:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)
        raise InputError(f"--plot: the file's suffix must be one of {known}, got {path}.")
    try:
        save_chart(chart, path)
    except OSError as err:
        raise InputError(f"--plot: cannot write {path}: {err.strerror or err}.") from None
