import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from opttune.report.chart import Chart, Panel, Rule, Series, Style
from opttune.report.draw import figure_html, library_script, save_chart

EVIL = "</script><script>alert(1)</script>'\"\\${x}"
STYLES: tuple[Style, ...] = get_args(Style)
DOTS = Series("s", [0.1, 0.5], [1.0, 2.0], "dots", "#ffffff")


def chart_of(*series: Series, **settings: Any) -> Chart:
    return Chart("a", "title", "", [Panel("x", "y", series, **settings)])


def spec_of(chart: Chart) -> dict[str, Any]:
    found = re.search(r"vegaEmbed\('#a', (.*), \{actions: false", figure_html(chart))
    assert found
    spec: dict[str, Any] = json.loads(found[1])
    return spec


def save(chart: Chart, folder: Path) -> bytes:
    save_chart(chart, folder / "a.png")
    return (folder / "a.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_drawn(style: Style, tmp_path: Path) -> None:
    drawn = save(chart_of(Series("s", [0.1, 0.5], [1.0, 2.0], style, "#ff0000", x_from=[0.0, 0.2])), tmp_path)

    assert drawn.startswith(b"\x89PNG")
    assert drawn != save(chart_of(DOTS), tmp_path)


def test_the_page_holds_the_points_with_their_labels_and_fetches_nothing() -> None:
    dots = Series("s", [0.1, 0.5], [1.0, 2.0], "dots", "#ff0000", labels=["#1 adamw", "#2 sgd"])
    line = Series("t", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "line", "#00ff00", labels=["#3 lion"])
    html = figure_html(chart_of(dots, line))
    rows = spec_of(chart_of(dots, line))["concat"][0]["data"]["values"]

    assert [(row["x"], row["own_label"], row["shared_label"]) for row in rows] == [
        ([0.1, 0.5], ["#1 adamw", "#2 sgd"], ""),
        ([1.0, 2.0, 3.0], [], "#3 lion"),
    ]
    assert "src=" not in html
    assert len(html) < 20_000


def test_the_legend_names_each_kind_once_and_a_single_one_needs_none() -> None:
    def legends(chart: Chart) -> set[str]:
        return set(
            re.findall(
                r'"legend": (null|\{\})', json.dumps(spec_of(chart)["concat"][0]["layer"][-1]["encoding"]["color"])
            )
        )

    assert legends(chart_of(DOTS)) == {"null"}
    assert legends(chart_of(DOTS, Series("t", [0.1], [1.0], "rings", "#ff0000"))) == {"{}"}


@pytest.mark.parametrize("rows", [(), (EVIL,)])
def test_names_of_the_users_stay_text(rows: tuple[str, ...], tmp_path: Path) -> None:
    y: Any = list(rows) or [1.0]
    series = Series(EVIL, [1.0], y, "dots", "#ff0000", labels=[EVIL])
    panel = Panel(EVIL, EVIL, [series], title=EVIL, rules=[Rule(1.0, EVIL, is_upright=True)], rows=rows)
    chart = Chart("a", EVIL, EVIL, [panel])
    html = figure_html(chart)

    assert "<script>alert" not in html
    assert html.count("</script>") == html.count("<script") == 1
    assert save(chart, tmp_path).startswith(b"\x89PNG")


def test_logarithmic_axes_take_one_point(tmp_path: Path) -> None:
    point = Series("s", [1e-3], [0.5], "dots", "#ff0000")
    chart = chart_of(point, x_log=True, y_log=True, y_range=(0.4, 0.6))

    assert spec_of(chart)["concat"][0]["layer"][0]["encoding"]["x"]["scale"]["domain"] == [1e-4, 1e-2]
    assert save(chart, tmp_path).startswith(b"\x89PNG")


def test_the_library_is_there_to_be_put_into_the_page() -> None:
    assert "window.vegaEmbed" in library_script()
    assert "</script" not in library_script()
