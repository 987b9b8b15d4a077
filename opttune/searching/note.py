"""The note on a search that MLflow shows on its page: the answer first."""

from collections.abc import Sequence

from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.searching.diagnosis import stability
from opttune.searching.plan import SearchPlan, recipe_call
from opttune.searching.record import TrialRecord
from opttune.searching.result import best_record
from opttune.training.survey import Survey

_MOST_ROWS = 50


def write_note(
    plan: SearchPlan, survey: Survey, records: Sequence[TrialRecord], baseline: Outcome | None, steps_spent: int
) -> str:
    """Return the note in Markdown: what won, against what, how to use it, and the table of trials.

    Args:
        plan: What the search was told.
        survey: What a look at the model showed.
        records: All trials.
        baseline: What the module reached as it came, where that was tried.
        steps_spent: Optimizer steps of the whole search.
    """
    cost = steps_spent / survey.total_steps
    searched = (
        f"Searched: `{survey.model_name}` ({survey.parameters:,} parameters), space `{plan.space.name}`, "
        f"{len(records)} trials, {cost:.1f} full trainings of {survey.total_steps} steps, seed {plan.seed}."
    )
    best = best_record(records, plan.mode)
    notes = "\n".join(f"- {_escape(note)}" for note in plan.space_notes)
    stable = "\n".join(f"- {sentence}" for sentence in stability(records))
    parts = [_answer(plan, survey, best, baseline), searched, notes, stable, _table(plan, records)]
    return "\n\n".join(part for part in parts if part)


def _answer(plan: SearchPlan, survey: Survey, best: TrialRecord | None, baseline: Outcome | None) -> str:
    if best is None or best.recipe is None:
        return "**No trial came through.**"
    against = ""
    if baseline is not None:
        value = "no value" if baseline.value is None else f"{baseline.value:.5g}"
        against = f" against {value} of the module as it came ({survey.replaced})"
    use = f"trainer = Trainer({_arguments(plan)}, callbacks=[{recipe_call(plan, best.recipe, 'best_recipe.yaml')}])"
    return (
        f"**{plan.monitor} {best.value:.5g}**{against}, with trial {best.number}:\n\n"
        f"`{_escape(str(best.recipe))}`\n\n"
        f"```python\nfrom opttune import RecipeCallback\n{use}\ntrainer.fit(model, ...)\n```"
    )


def _arguments(plan: SearchPlan) -> str:
    return ", ".join(f"{name}={value}" for name, value in plan.length.items())


def _table(plan: SearchPlan, records: Sequence[TrialRecord]) -> str:
    sign = 1 if plan.mode == "min" else -1
    ranked = sorted(records, key=lambda record: (record.value is None, sign * (record.value or 0.0), record.number))
    rows = [
        f"| {record.number} | {_value(record)} | {_reason(record)} | {_recipe(record.recipe)} |"
        for record in ranked[:_MOST_ROWS]
    ]
    more = f"\n\n... and {len(records) - _MOST_ROWS} more." if len(records) > _MOST_ROWS else ""
    return "\n".join([f"| trial | {plan.monitor} | ended | recipe |", "|---|---|---|---|", *rows]) + more


def _value(record: TrialRecord) -> str:
    if record.value is None:
        return ""
    again = "".join(
        f", {outcome.reason if outcome.value is None else f'{outcome.value:.5g}'}" for outcome in record.repeats
    )
    return f"{record.value:.5g}{again}"


def _reason(record: TrialRecord) -> str:
    if record.outcome is None:
        return record.state
    return f"{record.outcome.reason} at step {record.outcome.steps}"


def _recipe(recipe: Recipe | None) -> str:
    return "" if recipe is None else _escape(str(recipe))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
