"""The report in short, on the terminal; and the verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opttune.confirming.verdict import Verdict, plus_minus, study_verdict
from opttune.report.importance import field_importances
from opttune.report.progress import equal_cost_rows
from opttune.report.training import how_it_ended
from opttune.study.frozen_study import FrozenStudy
from opttune.study.result import plain_rows

_MOST_ROWS, _MOST_FIELDS = 10, 5


def report_json(study: FrozenStudy, written: Sequence[Path]) -> dict[str, Any]:
    """Return the report as JSON holds it."""
    best, verdict = study.best, study_verdict(study)
    return {
        "study": study.name,
        "report": str(written[0]),
        "pictures": [str(path) for path in written[1:]],
        "best_trial": best.number if best else None,
        "best_value": best.value if best else None,
        "baseline_value": study.baseline.value if study.baseline else None,
        "best_recipe": best.recipe.to_dict() if best and best.recipe else None,
        "steps_spent": study.steps_spent,
        "verdict": verdict.to_dict() if verdict else None,
        "equal_cost": equal_cost_rows(study),
        "importances": field_importances(study.study, study.config.mode),
        "trials": plain_rows(study.study),
        "warnings": study.warnings,
    }


def print_report(study: FrozenStudy, written: Sequence[Path]) -> None:
    """Print what the report holds, in short, and where it was written."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_trials(study))
    rows = equal_cost_rows(study)
    if rows:
        console.print(_table("the optimizers at equal cost", rows))
    lines = _answer(study)
    fields = list(field_importances(study.study, study.config.mode).items())[:_MOST_FIELDS]
    if fields:
        lines.append(f"mattered most    {', '.join(f'{name} {share:.0%}' for name, share in fields)}")
    verdict = study_verdict(study)
    lines += [f"verdict          {sentence}" for sentence in (verdict.sentences if verdict else ())]
    lines += [f"to heed          {sentence}" for sentence in study.warnings]
    lines.append(f"the report       {written[0]}, and {len(written) - 1} pictures beside it")
    console.print("\n".join(lines), markup=False)


def print_verdict(verdict: Verdict) -> None:
    """Print a verdict: a row for each candidate, and the sentence."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=f"{verdict.monitor} on {len(verdict.seeds)} new seeds: mean and 95% interval")
    for name in ("candidate", "trials", "mean", "seeds", "difference to the first", "p, corrected"):
        table.add_column(name)
    for standing in verdict.standings:
        spread, paired = standing.spread, standing.against
        table.add_row(
            Text(standing.candidate.label),
            ", ".join(map(str, standing.candidate.numbers)),
            plus_minus(spread.mean, spread.half_width) if spread else "no value",
            f"{len(standing.values) - standing.failures} of {len(standing.values)}",
            plus_minus(paired.difference.mean, paired.difference.half_width) if paired else "",
            f"{paired.corrected_p_value:.2g}" if paired and paired.corrected_p_value is not None else "",
        )
    console.print(table)
    console.print("\n".join(verdict.sentences), markup=False)


def _answer(study: FrozenStudy) -> list[str]:
    best = study.best
    if best is None:
        return ["No trial came through."]
    lines = [f"best             {study.config.monitor} {best.value:.5g} with {best.recipe} (trial {best.number})"]
    if study.baseline is not None and study.baseline.value is not None:
        lines.append(f"as it came       {study.baseline.value:.5g} with {study.origin.replaced}")
    cost = study.steps_spent / study.total_steps
    lines.append(f"cost             {cost:.1f} full trainings of {study.total_steps:,} steps")
    return lines


def _trials(study: FrozenStudy) -> Table:
    rows = [
        {
            "trial": record.number,
            study.config.monitor: record.value,
            "optimizer": record.recipe.optimizer.name,
            "lr": record.recipe.optimizer["lr"],
            "schedule": record.recipe.schedule.name,
            "steps": record.steps,
        }
        for record in study.ranked[:_MOST_ROWS]
        if record.recipe is not None
    ]
    kinds = [how_it_ended(record) for record in study.records]
    ended = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return _table(f"the best of {len(study.records)} trials ({ended})", rows)


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title)
    for name in rows[0] if rows else ():
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    return table


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
