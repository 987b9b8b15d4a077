from pathlib import Path

import pytest

from opttune.report.chart import NO_VALUE, Chart, Panel, Rule, Series, Style
from opttune.report.png import save_png

STYLES: tuple[Style, ...] = ("line", "steps", "dots", "rings", "crosses", "squares", "triangles", "bars", "errors")


def save(panel: Panel, folder: Path, title: str = "title") -> bytes:
    save_png(Chart("a", title, "", [panel]), folder / "a.png")
    return (folder / "a.png").read_bytes()


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_drawn(style: Style, tmp_path: Path) -> None:
    empty = save(Panel("x", "y", [Series("s", [0.1, 0.5], [1.0, 2.0], "dots", "#ffffff")]), tmp_path)
    drawn = save(Panel("x", "y", [Series("s", [0.1, 0.5], [1.0, 2.0], style, "#ff0000", spread=[0.1, 0.1])]), tmp_path)

    assert drawn.startswith(b"\x89PNG")
    assert drawn != empty


def test_a_formula_in_a_name_is_plain_text(tmp_path: Path) -> None:
    series = [Series("$\\frac$", [1.0, 2.0], [1.0, NO_VALUE], "line", "#ff0000")]
    panel = Panel("$x", "$\\bad{$", series, title="a$b$c", rules=[Rule(1.0, "$")], rows=["$", "$$"])

    assert save(panel, tmp_path, "$\\nothing$").startswith(b"\x89PNG")


def test_logarithmic_axes_take_one_point(tmp_path: Path) -> None:
    panel = Panel("x", "y", [Series("s", [1e-3], [0.5], "dots", "#ff0000")], x_log=True, y_log=True, y_range=(0.4, 0.6))

    assert save(panel, tmp_path).startswith(b"\x89PNG")
