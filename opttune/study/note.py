"""The note on a search's page in MLflow: the answer first."""

from collections.abc import Iterable, Sequence

from opttune.recipe import Recipe
from opttune.study.answer import NO_ANSWER, Answer, answer_of
from opttune.study.config import SearchConfig
from opttune.study.frozen_study import FrozenStudy
from opttune.trial_record import TrialRecord

_MOST_ROWS = 50
_LONGEST = 7_800
"""MLflow cuts a note at 8,000 characters."""


def write_note(study: FrozenStudy, verdict: Sequence[str] = ()) -> str:
    """Return the note in Markdown: the winner, the baseline, how to use it, warnings, and the table of trials.

    Args:
        study: The search.
        verdict: The verdict of `opttune confirm`, one sentence each; empty before it.
    """
    for most_rows in (_MOST_ROWS, 30, 20, 10, 5):
        note = _note(study, verdict, most_rows)
        if len(note) <= _LONGEST:
            break
    # the choice of the space is the least important part, so it comes last
    return note[:_LONGEST]


def _note(study: FrozenStudy, verdict: Sequence[str], most_rows: int) -> str:
    config, answer = study.config, answer_of(study)
    parts = [
        _answer(answer),
        _section("Verdict", _bullets(verdict)),
        _section("Warnings", _bullets([*answer.warnings, *answer.stability])),
        _section("Trials", _table(config, study.records, most_rows)),
        _section("Cost", _cost(study)),
        _section("What was searched", f"{_searched(study)}\n\n{_bullets(config.space_notes)}".strip()),
    ]
    return "\n\n".join(part for part in parts if part)


def escape_markdown(text: str) -> str:
    r"""Escape a user's text, so that Markdown shows it as plain words on one line.

    Example:
        >>> escape_markdown("a|b <script> `x`")
        "a\\|b &lt;script> 'x'"
    """
    line = " ".join(text.split())
    return line.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").replace("![", "!\\[").replace("](", "]\\(")


def _section(title: str, text: str) -> str:
    return f"### {title}\n\n{text}" if text else ""


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)


def _answer(answer: Answer) -> str:
    if answer.best is None:
        return f"**{NO_ANSWER}**"
    against = f", against a baseline of {escape_markdown(answer.baseline_words)}" if answer.baseline else ""
    return (
        f"**{escape_markdown(answer.result)}** with {answer.trial}{against}:\n\n"
        f"`{escape_markdown(str(answer.recipe))}`\n\n"
        f"```python\nimport opttune\ntrainer = {answer.trainer_call('best_recipe.yaml')}\ntrainer.fit(model, ...)\n```"
        "\n\n`best_recipe.yaml` is among the artifacts of this run."
    )


def _searched(study: FrozenStudy) -> str:
    return (
        f"`{escape_markdown(study.origin.model_name)}` ({study.origin.parameters:,} parameters), space "
        f"`{escape_markdown(study.space.name)}`, {len(study.records)} trials of up to {study.total_steps} steps, "
        f"seed {study.config.seed}."
    )


def _cost(study: FrozenStudy) -> str:
    return (
        f"{study.steps_spent / study.total_steps:.1f} full trainings of {study.total_steps} steps "
        f"({study.steps_spent:,} steps), {study.seconds_spent:,.0f} seconds of training."
    )


def _table(config: SearchConfig, records: Sequence[TrialRecord], most_rows: int) -> str:
    sign = 1 if config.mode == "min" else -1
    ranked = sorted(records, key=lambda record: (record.value is None, sign * (record.value or 0.0), record.number))
    rows = [
        f"| {record.number} | {_value(record)} | {_reason(record)} | {_recipe(record.recipe)} |"
        for record in ranked[:most_rows]
    ]
    more = f"\n\n... and {len(records) - most_rows} more." if len(records) > most_rows else ""
    head = f"| trial | {escape_markdown(config.monitor)} | ended | recipe |"
    return "\n".join([head, "|---|---|---|---|", *rows]) + more


def _value(record: TrialRecord) -> str:
    if record.value is None:
        return ""
    again = "".join(
        f", {outcome.reason if outcome.value is None else f'{outcome.value:.5g}'}" for outcome in record.replicates
    )
    return f"{record.value:.5g}{again}"


def _reason(record: TrialRecord) -> str:
    if record.outcome is None:
        return record.state
    return f"{record.outcome.reason} at step {record.outcome.optimizer_steps}"


def _recipe(recipe: Recipe | None) -> str:
    return "" if recipe is None else escape_markdown(str(recipe))
