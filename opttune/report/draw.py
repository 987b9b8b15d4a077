"""Draw charts with Vega-Lite: one figure for the page and the image, without a browser or a network.

vl-convert contains Vega-Lite: it draws the images and has the page's JavaScript. A figure is a specification in the
sense of https://vega.github.io/vega-lite/docs.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

import vl_convert

from opttune.report.chart import GREY, INK, Chart, Panel, Rule, Series, Style
from opttune.shared_folder import write_whole

Spec = dict[str, Any]

_COLUMNS = 3
_SIZES = {1: (820, 380), 2: (430, 330), 3: (290, 270)}
"""Panels side by side -> width and height of each, in pixels."""
_ROW_HEIGHT = 26
_PIXEL_RATIO = 1.5
_SHAPES: dict[Style, str] = {
    "line": "stroke",
    "steps": "stroke",
    "spans": "stroke",
    "dots": "circle",
    "rings": "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0ZM.6,0A.6,.6,0,1,0,-.6,0A.6,.6,0,1,0,.6,0Z",
    "crosses": "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z",
    "squares": "square",
    "triangles": "triangle-down",
}
_MARKS: tuple[Style, ...] = ("dots", "rings", "crosses", "squares", "triangles")
_AS_IT_IS: Spec = {"type": "quantitative", "scale": None}
_ONE_ROW_A_POINT: list[Spec] = [
    {"flatten": ["x", "y", "x_from", "own_label"]},
    {"calculate": "datum.own_label || datum.shared_label", "as": "label"},
]
_PICKED = {"name": "picked", "select": {"type": "point", "fields": ["name"]}, "bind": "legend"}
"""A click on an entry of the legend fades all others."""
_CONVERT: dict[str, Callable[[Spec], bytes]] = {
    ".pdf": vl_convert.vegalite_to_pdf,
    ".png": lambda figure: vl_convert.vegalite_to_png(figure, scale=_PIXEL_RATIO),
    ".svg": lambda figure: vl_convert.vegalite_to_svg(figure).encode(),
}
SUFFIXES = tuple(_CONVERT)
"""The formats of images."""
_CONFIG = {
    "view": {"stroke": None},
    "axis": {"gridOpacity": 0.6, "labelLimit": 260, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": 400},
    "legend": {"title": None, "labelLimit": 260, "symbolStrokeWidth": 2, "symbolOpacity": 1, "symbolSize": 60},
    "title": {"anchor": "start", "frame": "group", "fontSize": 12},
}


def save_chart(chart: Chart, path: Path) -> None:
    """Draw a chart into a file.

    Args:
        chart: The chart.
        path: Its suffix names the format, one of `SUFFIXES`.
    """
    figure = _figure(chart) | {"title": {"text": chart.title, "fontSize": 15, "offset": 14}, "background": "white"}
    write_whole(path, _CONVERT[path.suffix.lower()](figure))


@cache
def library_script() -> str:
    """Return the JavaScript that all figures of a page share: Vega, Vega-Lite and Vega-Embed."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def figure_html(chart: Chart) -> str:
    """Return a chart as an HTML element, for a page that holds `library_script`."""
    figure = json.dumps(_figure(chart)).replace("<", "\\u003c")  # a name may hold the end of a script
    # without a canvas, each of thousands of points would be an element of the page
    options = "{actions: false, renderer: 'canvas'}"
    return f"<div id='{chart.name}'></div><script>vegaEmbed('#{chart.name}', {figure}, {options})</script>"


def _figure(chart: Chart) -> Spec:
    columns = min(_COLUMNS, len(chart.panels))
    kinds = _kinds([series for panel in chart.panels for series in panel.series])
    panels = [_panel(panel, kinds, _SIZES[columns], number) for number, panel in enumerate(chart.panels)]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": f"{chart.title}. {chart.says}",
        "concat": panels,
        "columns": columns,
        "resolve": {"scale": {"color": "shared", "shape": "shared"}},
        "config": _CONFIG,
    }


def _kinds(all_series: Sequence[Series]) -> Spec:
    """Return the encodings that give each name its colour and its mark, and a legend if there are several names."""
    kinds: dict[str, Series] = {}
    for series in sorted(all_series, key=lambda series: series.style in _MARKS[1:]):
        # if a line and dots share a name, the legend shows the dot
        if series.name not in kinds or series.style in _MARKS:
            kinds[series.name] = series
    legend: Spec | None = {} if len(kinds) > 1 else None
    colours, shapes = [each.colour for each in kinds.values()], [_SHAPES[each.style] for each in kinds.values()]
    return {
        "color": {"field": "name", "scale": {"domain": list(kinds), "range": colours}, "legend": legend},
        "shape": {"field": "name", "scale": {"domain": list(kinds), "range": shapes}, "legend": legend},
    }


def _panel(panel: Panel, kinds: Spec, size: tuple[int, int], number: int) -> Spec:
    x, y = _x_axis(panel), _y_axis(panel)
    place = {"x": {"field": "x", **x}, "y": {"field": "y", **y}, "tooltip": _tooltip(panel)}
    opacity = {"condition": {"param": "picked", "field": "opacity", **_AS_IT_IS}, "value": 0.07}
    shown = {**place, "color": kinds["color"], "opacity": opacity}
    thick = {**shown, "strokeWidth": {"field": "width", **_AS_IT_IS}}
    drawn: list[tuple[Sequence[Style], Spec, Spec]] = [
        (["spans"], {"type": "rule"}, {**thick, "x2": {"field": "x_from"}}),
        (["line"], {"type": "line"}, {**thick, "detail": {"field": "series"}}),
        (["steps"], {"type": "line", "interpolate": "step-after"}, {**thick, "detail": {"field": "series"}}),
        # on hover Vega shows only the first point of a line; invisible points show each
        (["line", "steps"], {"type": "point", "opacity": 0, "size": 60}, place),
        (_MARKS, {"type": "point", "filled": True, "size": 50}, {**shown, "shape": kinds["shape"]}),
    ]
    used = {series.style for series in panel.series}
    layers: list[Spec] = [
        {
            "transform": [{"filter": {"field": "style", "oneOf": list(styles)}}],
            "mark": {**mark, "clip": True},
            "encoding": encoding,
        }
        for styles, mark, encoding in drawn
        if used & set(styles)
    ]
    zoom: Spec = {
        "type": "interval",
        "zoom": "wheel![event.shiftKey]",
        "encodings": ["x"] if panel.rows else ["x", "y"],
    }
    # one view of a chart holds the choice from the legend, and one view of each panel its zoom
    layers[0]["params"] = [{"name": f"zoom_{number}", "select": zoom, "bind": "scales"}, *([] if number else [_PICKED])]
    return {
        "title": panel.title,
        "width": size[0],
        "height": {"step": _ROW_HEIGHT} if panel.rows else size[1],
        "data": {"values": [_row(series, index) for index, series in enumerate(panel.series)]},
        "transform": _ONE_ROW_A_POINT,
        "layer": [layer for rule in panel.rules for layer in _rule(rule, x, y)] + layers,
    }


def _row(series: Series, index: int) -> Spec:
    """Return a series as one row of data, with the common values of its points written once."""
    has_own_labels = len(series.labels) == len(series.x)
    return {
        "name": series.name,
        "series": index,
        "style": series.style,
        "width": series.width,
        "opacity": series.opacity,
        "x": list(series.x),
        "y": list(series.y),
        "x_from": list(series.x_from) or ([0] * len(series.x) if series.style == "spans" else []),
        "own_label": list(series.labels) if has_own_labels else [],
        "shared_label": "" if has_own_labels else "".join(series.labels),
    }


def _tooltip(panel: Panel) -> list[Spec]:
    return [
        {"field": "label", "title": "title"},  # Vega's tooltip shows a field of this name as its heading
        {"field": "x", "type": "quantitative", "title": panel.x_label, "format": ".4g"},
        {"field": "y"}
        if panel.rows
        else {"field": "y", "type": "quantitative", "title": panel.y_label, "format": ".5g"},
    ]


def _x_axis(panel: Panel) -> Spec:
    x = [value for series in panel.series for value in series.x]
    axis: Spec = {"format": "%"} if panel.x_label.startswith("share") else {}
    scale: Spec = {"nice": False, "padding": 8, "zero": False}
    if panel.x_from_zero:
        scale = {"domain": [0, 1.03 * max(x)], "nice": False}
    if panel.x_log:
        # whole powers of ten around all points, so that at least two ticks have a number
        low, high = 10.0 ** floor(log10(min(x) / 1.1)), 10.0 ** ceil(log10(max(x) * 1.1))
        axis, scale = _log_axis(low, high), {"type": "log", "domain": [low, high]}
    return {"type": "quantitative", "title": panel.x_label, "axis": {"grid": True, **axis}, "scale": scale}


def _y_axis(panel: Panel) -> Spec:
    if panel.rows:
        return {"type": "nominal", "title": panel.y_label or None, "sort": list(panel.rows), "axis": {"grid": True}}
    y = [float(value) for series in panel.series for value in series.y]
    low, high = panel.y_range or (min(y), max(y))
    scale: Spec = {"type": "log" if panel.y_log else "linear", "domain": [low, high], "nice": False, "padding": 8}
    axis = {"grid": True, **(_log_axis(low, high) if panel.y_log else {})}
    return {"type": "quantitative", "title": panel.y_label, "axis": axis, "scale": scale}


def _log_axis(low: float, high: float) -> Spec:
    """Return an axis with numbers at powers of ten, and between them if those are few."""
    is_wide = high / low > 500
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in ((1,) if is_wide else (1, 2, 5))]
    return {"values": [tick for tick in ticks if low <= tick <= high], "format": "~e" if is_wide else "~g"}


def _rule(rule: Rule, x: Spec, y: Spec) -> tuple[Spec, Spec]:
    """Return a dashed line across a panel and the text beside it."""
    line = {"type": "rule", "color": GREY, "strokeDash": [5, 4]}
    text = {"type": "text", "text": rule.label, "color": INK, "opacity": 0.75, "baseline": "bottom", "clip": False}
    data: Spec = {"values": [{}]}
    if rule.is_upright:
        at: Spec = {"x": {"datum": rule.at, **x}}
        beside = {"mark": {**text, "dy": -3}, "encoding": {**at, "y": {"value": 0}}}
    else:
        at = {"y": {"datum": rule.at, **y}}
        beside = {"mark": {**text, "align": "right", "dx": -3, "dy": -2}, "encoding": {**at, "x": {"value": "width"}}}
    return {"data": data, "mark": line, "encoding": at}, {"data": data, **beside}
