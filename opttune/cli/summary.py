"""What the command prints at the end of a search."""

from typing import Any

from rich.console import Console
from rich.table import Table

from opttune.study.config import recipe_call
from opttune.study.result import SearchResult, plain_rows
from opttune.tracking.address import resolve_tracking_uri, safe_uri
from opttune.yaml_text import write_yaml

_MOST_ROWS = 5


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


def print_result(result: SearchResult, tracking_uri: str | None) -> None:
    """Print the answer, the best trials, and where to look.

    Args:
        result: What the search gave.
        tracking_uri: MLflow's place, where the user named one.
    """
    console = Console(highlight=False, soft_wrap=True)
    if result.best_recipe is None:
        lines = ["No trial came through; see the reasons above, and in MLflow."]
    else:
        console.print(_best_trials(result))
        lines = [_answer(result), "", write_yaml(result.best_recipe.to_dict()).rstrip(), ""]
        call = recipe_call(result.config, result.best_recipe, str(result.config.best_recipe_path))
        lines.append(f"train with it    Trainer(..., callbacks=[opttune.{call}])")
    lines.append(f"see every trial  {_where(tracking_uri)}")
    lines += [f"stability        {sentence}" for sentence in result.stability]
    lines += [f"warning          {warning}" for warning in result.warnings]
    console.print("\n".join(lines), markup=False)


def print_preview(plain: dict[str, Any]) -> None:
    """Print what a search would do."""
    width = max(len(name) for name in plain) + 2
    for name, value in plain.items():
        lines = _preview_text(name, value).splitlines() or [""]
        print(f"{name.replace('_', ' '):{width}}" + f"\n{'':{width}}".join(lines))


def _preview_text(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ("\n" if name == "why" else ", ").join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _answer(result: SearchResult) -> str:
    answer = f"best {result.config.monitor} {result.best_value:.5g} with {result.best_recipe}"
    if result.baseline_value is None:
        return answer
    return f"{answer}\nas it came      {result.baseline_value:.5g} with {result.replaced}"


def _best_trials(result: SearchResult) -> Table:
    table = Table(title=f"the best of {len(result.trials)} trials")
    for name in ("trial", result.config.monitor, "optimizer", "lr", "schedule"):
        table.add_column(name)
    valued = result.trials.dropna(subset=["value"])
    for row in valued.sort_values("value", ascending=result.config.mode == "min").head(_MOST_ROWS).itertuples():
        table.add_row(str(row.number), f"{row.value:.5g}", str(row.optimizer), f"{row.lr:.3g}", str(row.schedule))
    return table


def _where(tracking_uri: str | None) -> str:
    """Return how to look at the trials in MLflow."""
    uri = resolve_tracking_uri(tracking_uri)
    if uri.startswith("http"):
        return f"open {safe_uri(uri)}"
    # without an argument `mlflow ui` opens the database of the working folder
    return (
        "mlflow ui"
        if uri == resolve_tracking_uri("sqlite:///mlflow.db")
        else f"mlflow ui --backend-store-uri {safe_uri(uri)}"
    )
