"""Write the report of a search: the page and its images."""

from pathlib import Path

from opttune.confirming.verdict import study_verdict
from opttune.errors import InputError
from opttune.report.chart import Chart
from opttune.report.draw import save_chart
from opttune.report.page import write_page
from opttune.report.recipes import importances, schedules
from opttune.report.training import LOSS, Curves, halving, learning_curves
from opttune.report.values import best_over_cost, equal_cost, value_over_groups, value_over_lr, verdict_chart
from opttune.shared_folder import write_whole
from opttune.study.frozen_study import FrozenStudy
from opttune.tracking.address import resolve_tracking_uri
from opttune.tracking.reading import read_curves


def write_report(study: FrozenStudy, path: str | Path, tracking_uri: str | None = None) -> list[Path]:
    """Write the report of a search.

    Args:
        study: The search.
        path: A folder, or the HTML file; the images are written beside it.
        tracking_uri: MLflow's address, for the learning curves; None for that of the search.

    Returns:
        The HTML file, then the images.

    Raises:
        InputError: The folder cannot be written.
    """
    path = Path(path)
    page = path if path.suffix.lower() in (".html", ".htm") else path / "report.html"
    charts = make_charts(study, curves_of(study, tracking_uri))
    verdict = study_verdict(study)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_whole(page, write_page(study, charts, verdict.sentences if verdict else ()))
        pictures = [page.parent / f"{chart.name}.png" for chart in charts]
        for chart, picture in zip(charts, pictures, strict=True):
            save_chart(chart, picture)
    except OSError as err:
        raise InputError(f"cannot write the report to {page.parent}: {err.strerror or err}.") from None
    return [page, *pictures]


def curves_of(study: FrozenStudy, tracking_uri: str | None = None) -> Curves:
    """Return the learning curves of a search's trials from MLflow; empty if MLflow cannot be reached."""
    key = study.parent_key
    if key is None:
        return {}
    uri = resolve_tracking_uri(tracking_uri or study.origin.tracking_uri or None)
    return read_curves(uri, key, study.run_keys, (study.config.monitor, LOSS))


def make_charts(study: FrozenStudy, curves: Curves) -> list[Chart]:
    """Return the charts of a search, without charts that have no data.

    Args:
        study: The search.
        curves: The trials' learning curves.
    """
    charts = [
        best_over_cost(study),
        verdict_chart(study),
        equal_cost(study),
        value_over_lr(study),
        value_over_groups(study),
        learning_curves(study, curves),
        halving(study),
        schedules(study),
        importances(study),
    ]
    return [chart for chart in charts if chart is not None]
