"""Charts as pictures, drawn with matplotlib."""

from collections.abc import Callable
from io import BytesIO
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from opttune.report.chart import GREY, INK, Chart, Panel, Rule, Series
from opttune.shared_folder import write_whole

_COLUMNS = 3
_DPI = 130
_MARKERS: dict[str, dict[str, Any]] = {
    "dots": {"marker": "o", "s": 26, "edgecolors": "white", "linewidths": 0.5},
    "crosses": {"marker": "x", "s": 42, "linewidths": 1.8},
    "squares": {"marker": "s", "s": 22, "edgecolors": "white", "linewidths": 0.5},
    "triangles": {"marker": "v", "s": 34, "edgecolors": "white", "linewidths": 0.5},
}


def save_png(chart: Chart, path: Path) -> None:
    """Draw a chart into a picture file."""
    columns = min(_COLUMNS, len(chart.panels))
    rows = ceil(len(chart.panels) / columns)
    width = 8.5 if columns == 1 else 4.4 * columns
    figure = Figure(figsize=(width, _height(chart, rows)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=_shares_y(chart)).flat
    for axes, panel in zip(grid, chart.panels, strict=False):
        _draw(axes, panel)
    for axes in list(grid)[len(chart.panels) :]:
        axes.set_visible(False)
    figure.suptitle(_plain(chart.title), fontsize=12, x=0.01, ha="left")
    _legend(figure, chart)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    write_whole(path, picture.getvalue())


def _height(chart: Chart, rows: int) -> float:
    most = max(len(panel.rows) for panel in chart.panels)
    return max(4.4 if len(chart.panels) == 1 else 3.4 * rows + 0.8, 1.4 + 0.32 * most)


def _shares_y(chart: Chart) -> bool:
    return len({(panel.y_label, panel.y_range) for panel in chart.panels}) == 1


def _draw(axes: Axes, panel: Panel) -> None:
    if panel.x_log:
        axes.set_xscale("log")
        axes.set_xlim(*_decades(panel))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if panel.y_log:
        _set_log_y(axes, panel)
    for series in panel.series:
        _DRAW.get(series.style, _draw_marks)(axes, series)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    if panel.x_from_zero:
        axes.set_xlim(left=0)
    for rule in panel.rules:
        _draw_rule(axes, rule)
    if panel.rows:
        axes.set_yticks(range(len(panel.rows)), [_plain(row) for row in panel.rows])
        axes.set_ylim(-0.6, len(panel.rows) - 0.4)
    if panel.x_label.startswith("share"):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(_plain(panel.title), loc="left", fontsize=10)
    axes.set_xlabel(_plain(panel.x_label))
    axes.set_ylabel(_plain(panel.y_label))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis="x" if panel.rows else "both")


def _decades(panel: Panel) -> tuple[float, float]:
    """Return the powers of ten around all x, so that two ticks at least have a number."""
    x = [value for series in panel.series for value in series.x if value > 0]
    return 10.0 ** floor(log10(min(x) / 1.1)), 10.0 ** ceil(log10(max(x) * 1.1))


def _set_log_y(axes: Axes, panel: Panel) -> None:
    axes.set_yscale("log")
    low, high = panel.y_range or (1.0, 10.0)
    if high / low < 100:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_line(axes: Axes, series: Series) -> None:
    how: dict[str, Any] = {"drawstyle": "steps-post"} if series.style == "steps" else {}
    style = "--" if series.is_dashed else "-"
    axes.plot(
        series.x, series.y, style, color=series.colour, linewidth=series.width, alpha=series.opacity,
        label=_label(series), **how,
    )  # fmt: skip


def _draw_marks(axes: Axes, series: Series) -> None:
    if series.style == "rings":
        axes.scatter(series.x, series.y, s=26, facecolors="none", edgecolors=series.colour, label=_label(series))
        return
    # on the edge of the axes a mark is drawn whole
    axes.scatter(
        series.x, series.y, color=series.colour, alpha=series.opacity, label=_label(series), zorder=3,
        clip_on=series.style != "crosses", **_MARKERS[series.style],
    )  # fmt: skip


def _draw_bars(axes: Axes, series: Series) -> None:
    axes.barh(series.y, series.x, height=0.65, color=series.colour, label=_label(series))


def _draw_errors(axes: Axes, series: Series) -> None:
    axes.errorbar(series.x, series.y, xerr=series.spread, fmt="o", color=series.colour, capsize=4, label=_label(series))


_DRAW: dict[str, Callable[[Axes, Series], None]] = {
    "line": _draw_line,
    "steps": _draw_line,
    "bars": _draw_bars,
    "errors": _draw_errors,
}


def _draw_rule(axes: Axes, rule: Rule) -> None:
    how: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.0, "zorder": 1}
    text: dict[str, Any] = {"fontsize": 8, "color": INK, "alpha": 0.75}
    if rule.is_upright:
        axes.axvline(rule.at, **how)
        axes.annotate(_plain(rule.label), (rule.at, 1.0), xycoords=("data", "axes fraction"),
                      va="bottom", ha="center", xytext=(0, 2), textcoords="offset points", **text)  # fmt: skip
    else:
        axes.axhline(rule.at, **how)
        axes.annotate(_plain(rule.label), (1.0, rule.at), xycoords=("axes fraction", "data"),
                      va="bottom", ha="right", xytext=(-2, 2), textcoords="offset points", **text)  # fmt: skip


def _legend(figure: Figure, chart: Chart) -> None:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) > 1 or any(series.style == "steps" for panel in chart.panels for series in panel.series):
        figure.legend(
            handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8, alignment="left"
        )


def _label(series: Series) -> str:
    return _plain(series.name) if series.name else "_"


def _plain(text: str) -> str:
    # matplotlib would set what stands between two of them as a formula
    return text.replace("$", r"\$")
