"""Charts as interactive figures, drawn with plotly."""

from html import escape
from math import log10
from typing import Any

import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from opttune.report.chart import GREY, Chart, Panel, Series

_COLUMNS = 3
_SYMBOLS = {
    "dots": "circle",
    "rings": "circle-open",
    "crosses": "x",
    "squares": "square",
    "triangles": "triangle-down",
}


def plotly_script() -> str:
    """Return plotly's own JavaScript, which every figure of a page shares."""
    return str(get_plotlyjs())


def figure_html(chart: Chart) -> str:
    """Return a chart as an HTML element, to stand in a page that holds `plotly_script`."""
    columns = min(_COLUMNS, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    figure = make_subplots(rows, columns, subplot_titles=[escape(panel.title) for panel in chart.panels])
    named: set[str] = set()
    for index, panel in enumerate(chart.panels):
        row, column = divmod(index, columns)
        place = {"row": row + 1, "col": column + 1}
        for series in panel.series:
            figure.add_trace(_trace(series, show=bool(series.name) and series.name not in named), **place)
            named.add(series.name)
        _set_axes(figure, panel, place)
    tall = max(len(panel.rows) for panel in chart.panels)
    figure.update_layout(
        template="plotly_white",
        height=max(420 if rows == 1 else 340 * rows, 120 + 30 * tall),
        margin={"l": 70, "r": 20, "t": 40, "b": 60},
        legend={"groupclick": "toggleitem"},
        showlegend=len(named - {""}) > 1,
    )
    return str(
        to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            config={"displaylogo": False, "responsive": True},
            div_id=chart.name,
        )
    )


def _trace(series: Series, *, show: bool) -> Any:
    shared: dict[str, Any] = {
        "x": list(series.x),
        "y": list(series.y),
        "name": escape(series.name),
        "legendgroup": escape(series.name) or None,
        "showlegend": show,
        "opacity": series.opacity,
    }
    if series.labels:
        texts = [escape(label) for label in series.labels]
        shared |= {"text": texts[0] if series.style in ("line", "steps") else texts}
        shared |= {"hovertemplate": "%{text}<br>%{x}, %{y:.5g}<extra></extra>"}
    if series.style == "bars":
        shared["hovertemplate"] = "%{text}<extra></extra>"
        return go.Bar(**shared, orientation="h", marker_color=series.colour, textposition="none")
    if series.style in ("line", "steps"):
        line = {
            "color": series.colour,
            "width": series.width,
            "dash": "dash" if series.is_dashed else "solid",
            "shape": "hv" if series.style == "steps" else "linear",
        }
        return go.Scatter(**shared, mode="lines", line=line)
    marker = {"color": series.colour, "symbol": _SYMBOLS.get(series.style, "circle"), "size": 8}
    errors = {"array": list(series.spread), "color": series.colour} if series.style == "errors" else None
    return go.Scatter(**shared, mode="markers", marker=marker, error_x=errors)


def _set_axes(figure: Any, panel: Panel, place: dict[str, int]) -> None:
    figure.update_xaxes(
        title_text=escape(panel.x_label),
        type="log" if panel.x_log else "linear",
        rangemode="tozero" if panel.x_from_zero else "normal",
        tickformat=".0%" if panel.x_label.startswith("share") else None,
        **place,
    )
    figure.update_yaxes(title_text=escape(panel.y_label), type="log" if panel.y_log else "linear", **place)
    if panel.y_range:
        figure.update_yaxes(range=_range(panel), **place)
    if panel.rows:
        figure.update_yaxes(
            tickmode="array", tickvals=list(range(len(panel.rows))), ticktext=[escape(row) for row in panel.rows],
            automargin=True, **place,
        )  # fmt: skip
    for rule in panel.rules:
        draw = figure.add_vline if rule.is_upright else figure.add_hline
        draw(
            rule.at, line={"color": GREY, "dash": "dash", "width": 1},
            annotation={"text": escape(rule.label), "font": {"size": 10}},
            annotation_position="top left" if rule.is_upright else "top right", **place,
        )  # fmt: skip


def _range(panel: Panel) -> list[float]:
    low, high = panel.y_range or (0.0, 1.0)
    return [log10(low), log10(high)] if panel.y_log else [low, high]
