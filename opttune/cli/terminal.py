"""The output of the commands: the end of a search, a preview, a report, a verdict; and the same as JSON."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opttune.confirming.verdict import Verdict, plus_minus, study_verdict
from opttune.report.recipes import field_importances
from opttune.report.trials import how_it_ended
from opttune.report.values import equal_cost_rows, improvement_rows
from opttune.storages.study_folder import folder_name
from opttune.study.answer import NO_ANSWER, answer_of
from opttune.study.frozen_study import FrozenStudy
from opttune.study.result import SearchResult, plain_rows
from opttune.tracking.address import resolve_tracking_uri, safe_uri

_MOST_ROWS_OF_SEARCH, _MOST_ROWS_OF_REPORT, _MOST_FIELDS = 5, 10, 5


def result_json(result: SearchResult) -> dict[str, Any]:
    """Return a result as the one JSON object that `--json` prints."""
    return {
        "study": result.study.study_name,
        "run_id": result.run_id,
        "best_value": result.best_value,
        "baseline_value": result.baseline_value,
        "best_recipe": result.best_recipe.to_dict() if result.best_recipe else None,
        "steps_spent": result.steps_spent,
        "budget_steps": result.budget_steps,
        "trials": plain_rows(result.study),
        "warnings": list(result.warnings),
    }


def print_result(result: SearchResult, tracking_uri: str | None, storage: str | None = None) -> None:
    """Print the best trials, the answer beside the baseline, warnings, and the next commands.

    Args:
        result: The result of the search.
        tracking_uri: Address of MLflow, if the user named one.
        storage: Storage of the study, if the user named one.
    """
    console = Console(highlight=False, soft_wrap=True)
    answer = result.answer
    following = answer.next_steps(f"opttune confirm {_study_argument(result, storage)}")
    if answer.best is None:
        lines = [f"{NO_ANSWER} See the reasons above, and in MLflow."]
    else:
        console.print(_best_trials(result))
        lines = [*answer.lines, "", answer.recipe_yaml, ""]
    lines += [f"stability        {sentence}" for sentence in answer.stability]
    lines += [f"warning          {warning}" for warning in result.warnings]
    console.print("\n".join([*lines, *following, f"see every trial  {_where(tracking_uri)}"]), markup=False)


def _study_argument(result: SearchResult, storage: str | None) -> str:
    """Return the argument with which a command finds the study of a search."""
    name, folder = result.config.study_name, result.config.out_dir
    if storage is not None:
        return f"{shlex.quote(name)} --storage {shlex.quote(safe_uri(storage))}"
    is_usual = folder == Path("opttune_runs") / folder_name(name)
    return shlex.quote(name if is_usual else str(folder))


def print_preview(plain: dict[str, Any]) -> None:
    """Print the plan of a search."""
    width = max(len(name) for name in plain) + 2
    for name, value in plain.items():
        lines = _preview_text(name, value).splitlines() or [""]
        print(f"{name.replace('_', ' '):{width}}" + f"\n{'':{width}}".join(lines))


def report_json(study: FrozenStudy, written: Sequence[Path]) -> dict[str, Any]:
    """Return the report as plain values for JSON."""
    answer, verdict = answer_of(study), study_verdict(study)
    return {
        "study": study.name,
        "report": str(written[0]),
        "pictures": [str(path) for path in written[1:]],
        "best_trial": answer.best.number if answer.best and answer.best.auxiliary is None else None,
        "best_value": answer.value,
        "baseline_value": answer.baseline_value,
        "best_recipe": answer.recipe.to_dict() if answer.recipe else None,
        "steps_spent": study.steps_spent,
        "verdict": verdict.to_dict() if verdict else None,
        "equal_cost": equal_cost_rows(study),
        "best_over_cost": improvement_rows(study),
        "importances": field_importances(study.study, study.config.mode),
        "trials": plain_rows(study.study),
        "warnings": [*answer.warnings, *answer.stability],
    }


def print_report(study: FrozenStudy, written: Sequence[Path]) -> None:
    """Print a summary of the report, and the place of its files."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_trials(study))
    rows = equal_cost_rows(study)
    if rows:
        console.print(_table("the optimizers at equal cost", rows))
    if improvements := improvement_rows(study):
        console.print(_table("the best so far, over steps and seconds of training", improvements))
    answer = answer_of(study)
    lines = [NO_ANSWER]
    if answer.best is not None:
        cost = (
            f"{study.steps_spent / study.total_steps:.1f} full trainings of {study.total_steps:,} steps, "
            f"{study.seconds_spent:,.0f} seconds of training"
        )
        lines = [*answer.lines, f"cost             {cost}"]
    fields = list(field_importances(study.study, study.config.mode).items())[:_MOST_FIELDS]
    if fields:
        lines.append(f"mattered most    {', '.join(f'{name} {share:.0%}' for name, share in fields)}")
    verdict = study_verdict(study)
    lines += [f"verdict          {sentence}" for sentence in (verdict.sentences if verdict else ())]
    lines += [f"stability        {sentence}" for sentence in answer.stability]
    lines += [f"warning          {warning}" for warning in answer.warnings]
    lines.append(f"the report       {written[0]}, and {len(written) - 1} images beside it")
    console.print("\n".join(lines), markup=False)


def print_verdict(verdict: Verdict) -> None:
    """Print a verdict: a row for each candidate, and the sentence."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=f"{verdict.monitor} on {len(verdict.seeds)} new seeds: mean and 95% interval")
    for name in ("candidate", "trials of the search", "mean", "seeds", "difference to the first", "p, corrected"):
        table.add_column(name)
    for each in verdict.results:
        spread, paired = each.spread, each.against
        table.add_row(
            Text(each.candidate.label),
            ", ".join(map(str, each.candidate.numbers)),
            plus_minus(spread.mean, spread.half_width) if spread else "no value",
            f"{len(each.values) - each.failures} of {len(each.values)}",
            plus_minus(paired.difference.mean, paired.difference.half_width) if paired else "",
            f"{paired.corrected_p_value:.2g}" if paired and paired.corrected_p_value is not None else "",
        )
    console.print(table)
    console.print("\n".join(verdict.sentences), markup=False)


def _preview_text(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ("\n" if name == "why" else ", ").join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _best_trials(result: SearchResult) -> Table:
    table = Table(title=f"the best of {len(result.trials)} trials")
    for name in ("trial", result.config.monitor, "optimizer", "lr", "schedule"):
        table.add_column(name)
    valued = result.trials.dropna(subset=["value"])
    best = valued.sort_values("value", ascending=result.config.mode == "min").head(_MOST_ROWS_OF_SEARCH)
    for row in best.to_dict("records"):
        table.add_row(
            str(row["number"]), f"{row['value']:.5g}", str(row["optimizer"]), _rates(row), str(row["schedule"])
        )
    return table


def _rates(row: dict[Any, Any]) -> str:
    """Return the learning rates of a trial; a factor on the module's own as `x2`."""
    rates = {name: value for name, value in row.items() if str(name).rpartition(".")[2] in ("lr", "lr_factor")}
    known = {name: value for name, value in rates.items() if value is not None and value == value}
    return ", ".join(f"x{value:.3g}" if name.endswith("lr_factor") else f"{value:.3g}" for name, value in known.items())


def _where(tracking_uri: str | None) -> str:
    """Return the command that shows the trials in MLflow."""
    uri = resolve_tracking_uri(tracking_uri)
    if uri.startswith("http"):
        return f"open {safe_uri(uri)}"
    # without an argument `mlflow ui` opens the database of the working folder
    return (
        "mlflow ui"
        if uri == resolve_tracking_uri("sqlite:///mlflow.db")
        else f"mlflow ui --backend-store-uri {safe_uri(uri)}"
    )


def _trials(study: FrozenStudy) -> Table:
    rows = [
        {
            "trial": record.number,
            study.config.monitor: record.value,
            "optimizer": record.recipe.optimizer.name,
            "lr": _rates(record.recipe.flat()),
            "schedule": record.recipe.schedule.name,
            "steps": record.last.optimizer_steps if record.last else 0,
            "ms a step": None if record.step_seconds is None else 1000 * record.step_seconds,
        }
        for record in study.ranked[:_MOST_ROWS_OF_REPORT]
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
