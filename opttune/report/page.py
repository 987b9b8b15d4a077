"""The report as one HTML page without external files."""

from collections.abc import Sequence
from html import escape

from opttune.report.chart import Chart
from opttune.report.draw import figure_html, library_script
from opttune.report.trials import how_it_ended
from opttune.report.values import equal_cost_rows
from opttune.study.answer import NO_ANSWER, Answer, answer_of
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord
from opttune.version import __version__

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2.2em; border-bottom: 1px solid #ddd; }
.answer { font-size: 1.15em; } .says, .small { color: #555; }
pre { background: #f5f5f5; padding: .8em; overflow: auto; }
table { border-collapse: collapse; font-size: 13px; } .wide { overflow-x: auto; }
th, td { padding: .25em .7em; border-bottom: 1px solid #e5e5e5; text-align: left; white-space: nowrap; }
th.sorts { cursor: pointer; } th.sorts:hover { background: #eef3f8; } td.number { text-align: right; }
.best td { background: #e9f4ec; } .diverged td, .failed td { color: #a33; } .behind td, .waits td { color: #777; }
th[aria-sort=ascending]::after { content: " \\25b2"; } th[aria-sort=descending]::after { content: " \\25bc"; }
"""

_SORT = """
document.querySelectorAll("th.sorts").forEach(head => head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("th").forEach(each => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.key;
  const compare = (a, b) => {
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");  // missing values come last in either order
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : Number(x) - Number(y);
    return up ? order : -order;
  };
  [...body.rows].sort(compare).forEach(row => body.append(row));
}));
"""

_HINT = (
    "<p class='small'>In the charts: point at a mark to see its trial and recipe; click a legend entry to show it "
    "alone; drag to move, Shift and the wheel to zoom, double click to reset.</p>"
)


def write_page(study: FrozenStudy, charts: Sequence[Chart], verdict: Sequence[str] = ()) -> str:
    """Return the report of a search as HTML.

    Args:
        study: The search.
        charts: Its charts.
        verdict: The comparison of its winner on new seeds, one sentence each.
    """
    answer = answer_of(study)
    parts = [
        f"<h1>{escape(study.name)}</h1>",
        _answer(answer),
        _list("Verdict", verdict),
        _list("Warnings", [*answer.warnings, *answer.stability]),
        _HINT if charts else "",
        *map(_figure, charts[:1]),
        _comparison(study),
        *map(_figure, charts[1:]),
        "<h2>All trials</h2><p class='says'>Click a heading to sort.</p>",
        f"<div class='wide'>{_trials(study)}</div>",
        f"<p class='small'>{_searched(study)} Written by opttune {escape(__version__)}.</p>",
    ]
    head = f"<meta charset='utf-8'><title>{escape(study.name)}: opttune</title><style>{_STYLE}</style>"
    scripts = f"<script>{library_script()}</script>"
    body = "\n".join(part for part in parts if part)
    return (
        f"<!doctype html>\n<html lang='en'><head>{head}{scripts}</head>\n<body>\n{body}\n"
        f"<script>{_SORT}</script>\n</body></html>\n"
    )


def _answer(answer: Answer) -> str:
    if answer.best is None:
        return f"<p class='answer'><b>{NO_ANSWER}</b></p>"
    against = f", against a baseline of {escape(answer.baseline_words)}" if answer.baseline else ""
    return (
        f"<p class='answer'><b>{escape(answer.result)}</b> with {answer.trial}{against}:<br>"
        f"{escape(str(answer.recipe))}</p><pre>{escape(answer.recipe_yaml)}</pre>"
        f"<pre>trainer = {escape(answer.trainer_call())}</pre>"
    )


def _list(title: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<h2>{title}</h2><ul>{items}</ul>" if items else ""


def _figure(chart: Chart) -> str:
    return f"<h2>{escape(chart.title)}</h2><p class='says'>{escape(chart.says)}</p>{figure_html(chart)}"


def _comparison(study: FrozenStudy) -> str:
    rows = equal_cost_rows(study)
    if not rows:
        return ""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _trials(study: FrozenStudy) -> str:
    rows = [record.row() | {"seconds": round(record.seconds, 1)} for record in study.records]
    names = list(dict.fromkeys(name for row in rows for name in row if any(r.get(name) is not None for r in rows)))
    head = "".join(f"<th class='sorts'>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr class='{_class(study, record)}'>{''.join(_cell(row.get(name)) for name in names)}</tr>"
        for record, row in zip(study.records, rows, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _class(study: FrozenStudy, record: TrialRecord) -> str:
    is_best = study.best is not None and record.name == study.best.name
    return "best" if is_best else how_it_ended(record).removeprefix("left ")


def _cell(value: object) -> str:
    if value is None:
        return "<td data-key=''></td>"
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:.5g}" if isinstance(value, float) else f"{value}"
        return f"<td class='number' data-key='{value!r}'>{text}</td>"
    return f"<td data-key='{escape(str(value), quote=True)}'>{escape(str(value))}</td>"


def _searched(study: FrozenStudy) -> str:
    origin = study.origin
    return (
        f"{escape(origin.model_name)}, {origin.parameters:,} parameters; space {escape(study.space.name)}; "
        f"{len(study.records)} trials of up to {study.total_steps:,} steps; {study.steps_spent:,} steps spent, "
        f"{study.steps_spent / study.total_steps:.1f} full trainings, {study.seconds_spent:,.0f} seconds; "
        f"seed {study.config.seed}."
    )
