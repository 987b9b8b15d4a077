"""Pictures of schedules."""

from math import ceil
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opttune.build.schedule import multiplier
from opttune.catalog.lookup import find_schedule, schedule_names
from opttune.errors import InputError
from opttune.recipe import Part

DEFAULT_STEPS = 1000
WARMUP = 0.1
"""Share of the training in the second curve of a picture of one schedule."""
_COLUMNS = 4
_BLUE, _ORANGE = "#1f6fb4", "#e07b39"


def plot_schedule(name: str, path: str | Path, steps: int = DEFAULT_STEPS) -> None:
    """Draw a schedule with its default options; where it takes a warmup, with and without one.

    Args:
        name: Name in the catalog.
        path: File to write; its suffix says the format.
        steps: Optimizer steps of the training, >= 1.

    Raises:
        UnknownNameError: There is no such schedule.
        RecipeError: It follows the monitored metric and has no curve of its own.
        InputError: `steps` is too small, or the file cannot be written.
    """
    info = find_schedule(name)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, Part(name), steps, _BLUE, label="with its default options")
    if any(option.name == "warmup_fraction" for option in info.options):
        warmed = Part(name, {"warmup_fraction": WARMUP})
        _draw(axes, warmed, steps, _ORANGE, label=f"with warmup_fraction {WARMUP:g}", style="--")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.set_figwidth(9.5)
    axes.set_title(f"{name}: {info.summary}", loc="left", fontsize=11, wrap=True)
    axes.set_xlabel("share of the training")
    axes.set_ylabel("share of the peak learning rate")
    _save(figure, path)


def plot_all_schedules(path: str | Path, steps: int = DEFAULT_STEPS) -> None:
    """Draw every schedule that has a curve of its own, each in a panel, with its default options.

    Args:
        path: File to write; its suffix says the format.
        steps: Optimizer steps of the training, >= 1.

    Raises:
        InputError: `steps` is too small, or the file cannot be written.
    """
    names = [name for name in schedule_names() if not find_schedule(name).follows_monitor]
    rows = ceil(len(names) / _COLUMNS)
    figure = Figure(figsize=(2.6 * _COLUMNS, 1.9 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for name, axes in zip(names, panels, strict=False):
        _draw(axes, Part(name), steps, _BLUE)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    for axes in list(panels)[len(names) :]:
        axes.set_visible(False)
    figure.suptitle("The schedules with their default options", fontsize=12)
    figure.supxlabel("share of the training", fontsize=10)
    figure.supylabel("share of the peak learning rate", fontsize=10)
    _save(figure, path)


def _draw(axes: Axes, schedule: Part, steps: int, colour: str, label: str = "", style: str = "-") -> None:
    if steps < 1:
        raise InputError(f"--steps must be a whole number >= 1, got {steps}.")
    factor = multiplier(schedule, steps)
    # the last step's rate lasts until the training ends
    factors = [factor(min(step, steps - 1)) for step in range(steps + 1)]
    axes.step([step / steps for step in range(steps + 1)], factors, style, where="post", color=colour, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.05)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _save(figure: Figure, path: str | Path) -> None:
    suffixes = sorted(figure.canvas.get_supported_filetypes())
    if Path(path).suffix.lower().removeprefix(".") not in suffixes:
        raise InputError(f"--plot: the file's suffix must be one of {', '.join(suffixes)}, got {path}.")
    try:
        figure.savefig(path, dpi=150)
    except OSError as err:
        raise InputError(f"--plot: cannot write {path}: {err.strerror or err}.") from None
