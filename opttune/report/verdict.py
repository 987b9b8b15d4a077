"""The chart of a verdict: each candidate's mean over the seeds, with its interval and its values."""

from opttune.confirming.verdict import study_verdict
from opttune.report.chart import GREY, INK, Chart, Panel, Series
from opttune.study.frozen_study import FrozenStudy


def verdict_chart(study: FrozenStudy) -> Chart | None:
    """Draw what each candidate reached on the seeds of the verdict; None where there is none."""
    verdict = study_verdict(study)
    if verdict is None:
        return None
    standings = [standing for standing in reversed(verdict.standings) if standing.spread is not None]
    values: list[tuple[float, float, str]] = []
    means: list[tuple[float, float, float]] = []
    for row, standing in enumerate(standings):
        values += [(v, float(row), f"seed {seed}") for seed, v in standing.values.items() if v is not None]
        if standing.spread is not None:
            means.append((standing.spread.mean, float(row), standing.spread.half_width or 0.0))
    x, y, labels = zip(*values, strict=True)
    centre, row_of, spread = zip(*means, strict=True)
    panel = Panel(
        study.config.monitor,
        "",
        [
            Series("one seed", x, y, "rings", GREY, labels=labels),
            Series("mean and its 95% interval", centre, row_of, "errors", INK, spread=spread),
        ],
        rows=[standing.candidate.label for standing in standings],
    )
    return Chart(
        "verdict",
        f"The verdict: {len(verdict.seeds)} new seeds each",
        f"{verdict.sentences[0]}. The comparison is by seed, so intervals that overlap may still differ.",
        [panel],
    )
