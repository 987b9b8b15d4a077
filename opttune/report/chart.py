"""`Chart`: one figure of the report as plain values, which `draw.py` turns into HTML and PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

Style = Literal["line", "steps", "spans", "dots", "rings", "crosses", "squares", "triangles"]
PALETTE = ("#1f6fb4", "#d95f02", "#1b9e77", "#7b5ea7", "#c9a400", "#e7298a", "#5d8a1d", "#8c564b", "#17a2b8")
INK, GREY, RED, GREEN = "#222222", "#8a8a8a", "#c0392b", "#2e8b57"

_STEEP = 10.0


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind.

    Attributes:
        name: Its entry in the legend. Series with the same name share an entry and a colour in the whole chart.
        x: Horizontal positions; for spans, their ends.
        y: Vertical positions, or the names of rows.
        style: `line`, `steps` (a line that holds its value), `spans` (horizontal bars), or a mark.
        colour: As `#rrggbb`.
        labels: A text for each point, or one for the whole line; shown on hover.
        width: Thickness of a line or a span, in pixels.
        opacity: In (0, 1].
        x_from: The starts of spans; empty for 0.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float] | Sequence[str]
    style: Style
    colour: str
    labels: Sequence[str] = ()
    width: float = 1.5
    opacity: float = 1.0
    x_from: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A dashed line across a panel.

    Attributes:
        at: Its position on the axis that it crosses.
        label: The text beside it.
        is_upright: Whether it is vertical, at an x; else it is horizontal, at a y.
    """

    at: float
    label: str
    is_upright: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Attributes:
        x_label: Label of the x axis, with its unit.
        y_label: Label of the y axis.
        series: The series to draw.
        title: Title above the panel; empty for none.
        rules: Lines across the panel.
        x_log: Whether the x axis is logarithmic.
        y_log: Whether the y axis is logarithmic.
        y_range: Least and largest y; None to fit the points.
        rows: Names of the rows from above, if the y of all series are such names.
        x_from_zero: Whether the x axis starts at 0.
    """

    x_label: str
    y_label: str
    series: Sequence[Series]
    title: str = ""
    rules: Sequence[Rule] = ()
    x_log: bool = False
    y_log: bool = False
    y_range: tuple[float, float] | None = None
    rows: Sequence[str] = ()
    x_from_zero: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure.

    Attributes:
        name: Name of its image file, without suffix.
        title: Its title.
        says: A guide for reading it, in a sentence or two.
        panels: One or more.
    """

    name: str
    title: str
    says: str
    panels: Sequence[Panel]


def is_steep(values: Sequence[float]) -> bool:
    """Return whether values need a logarithmic axis: all are above 0, and they span a factor of 10.

    Example:
        >>> is_steep([0.1, 2.0]), is_steep([0.1, 0.5]), is_steep([0.0, 5.0])
        (True, False, False)
    """
    finite = [value for value in values if isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > _STEEP


def room_for(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Return the least and largest y of an axis for values, with room at the top for marks without a value.

    Example:
        >>> room_for([1.0, 2.0], log=False)
        (0.95, 2.15)
    """
    low, high = min(values), max(values)
    if log:
        factor = (high / low) ** 0.1 if high > low else 1.5
        return low / factor**0.5, high * factor**1.5
    span = high - low or abs(high) or 1.0
    return low - 0.05 * span, high + 0.15 * span
