import json

import optuna
import pytest

from opttune.recipe import Part, Recipe
from opttune.storages.records import OUTCOME, RECIPE
from opttune.study.answer import answer_of
from opttune.study.result import SearchResult, plain_rows, trials_table
from opttune.study.selection import best_record, is_better
from opttune.trial_record import TrialRecord
from tests.support.records import PLAN, make_outcome, make_trial, stored
from tests.support.records import record as full_record


def record(number: int, value: float | None, recipe: Recipe | None = None) -> TrialRecord:
    return make_trial(number, make_outcome(value), recipe=recipe)


def sgd(**options: float) -> Recipe:
    return Recipe(Part("sgd", options))


@pytest.mark.parametrize(
    ("value", "than", "mode", "expected"),
    [
        (1.0, 2.0, "min", True),
        (2.0, 1.0, "min", False),
        (2.0, 1.0, "max", True),
        (1.0, 1.0, "min", False),
        (1.0, None, "min", True),
        (None, 1.0, "min", False),
        (None, None, "max", False),
    ],
)
def test_any_value_beats_none_and_the_mode_decides_between_two(
    value: float | None, than: float | None, mode: str, expected: bool
) -> None:
    assert is_better(value, than, mode) is expected


def test_the_earliest_of_equals_is_the_best() -> None:
    records = [record(0, None), record(1, 2.0), record(2, 1.0), record(3, 1.0)]

    assert best_record(records, "min") == records[2]
    assert best_record(records, "max") == records[1]


def test_where_no_trial_finished_there_is_no_best() -> None:
    assert best_record([record(0, None)], "min") is None
    assert best_record([], "min") is None


def test_a_table_without_trials_has_its_columns() -> None:
    table = trials_table([])

    assert len(table) == 0
    assert list(table.columns) == [
        "number", "state", "reason", "value", "steps", "steps_spent", "rung", "seconds_spent", "step_seconds",
    ]  # fmt: skip


def test_a_field_that_a_recipe_lacks_is_missing_in_the_table() -> None:
    table = trials_table([record(0, 1.0, sgd(lr=0.1)), record(1, 1.0, Recipe(Part("adamw", {"betas": (0.9, 0.99)})))])

    assert table["beta1"].isna().tolist() == [True, False]
    assert table["lr"].isna().tolist() == [False, True]


def test_plain_rows_are_json_with_the_same_keys_in_every_row() -> None:
    study = optuna.create_study()
    for recipe, value in ((sgd(lr=0.1), 1.0), (Recipe(Part("adamw", {"betas": (0.9, 0.99)})), None)):
        trial = study.ask()
        trial.set_user_attr(RECIPE, recipe.to_dict())
        trial.set_user_attr(OUTCOME, record(0, value).outcome.to_dict())  # type: ignore[union-attr]
        study.tell(trial, value or 1e9)
    rows = json.loads(json.dumps(plain_rows(study), allow_nan=False))

    assert list(rows[0]) == list(rows[1])
    assert (rows[0]["lr"], rows[0]["beta1"], rows[1]["lr"], rows[1]["value"]) == (0.1, None, None, None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.4, "best val_loss 0.4 with adamw(lr=0.001), cosine() (trial 0)\nbaseline 2.5 with SGD(lr=0.0001) (your own"),
        (None, "No trial finished with a value. The column reason of trials says why."),
    ],
)
def test_shown_in_a_notebook_a_result_is_its_answer_with_the_warnings(value: float | None, words: str) -> None:
    study = stored([full_record(0, value)], *([] if value else [None]))
    warnings = ("heed this",)
    result = SearchResult(
        answer_of(study), trials_table([]), 0, optuna.create_study(), None, warnings, 0, PLAN, lambda path: path
    )  # type: ignore[arg-type]
    assert repr(result).startswith(words)
    assert repr(result).endswith("warning: heed this")
