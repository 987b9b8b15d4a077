import pytest

from opttune.report.chart import Chart, Panel, Rule, Series
from opttune.report.interactive import figure_html, plotly_script
from tests.unit.report.test_png import STYLES, Style

EVIL = "</script><script>alert(1)</script>"


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_drawn_without_the_library(style: Style) -> None:
    html = figure_html(Chart("a", "t", "", [Panel("x", "y", [Series("s", [1.0], [2.0], style, "#ff0000")])]))

    assert 'id="a"' in html
    assert "#ff0000" in html
    assert "cdn" not in html
    assert len(html) < 20_000


def test_names_of_the_users_stay_text() -> None:
    series = Series(EVIL, [1.0], [2.0], "dots", "#ff0000", labels=[EVIL])
    bars = Series(EVIL, [1.0], [0.0], "bars", "#ff0000", labels=[EVIL])
    panel = Panel(EVIL, EVIL, [series, bars], title=EVIL, rules=[Rule(1.0, EVIL)], rows=[EVIL])
    html = figure_html(Chart("a", EVIL, EVIL, [panel]))

    assert "<script>alert" not in html
    assert html.count("</script>") == html.count("<script")


def test_the_library_is_there_to_be_put_into_the_page() -> None:
    assert "plotly.js" in plotly_script()[:1000]
