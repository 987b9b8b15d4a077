import re

from opttune.study.note import escape_markdown, write_note
from tests.support.records import BASELINE, record, stored


def table_rows(note: str) -> list[str]:
    return [line for line in note.splitlines() if line.startswith("| ") and not line.startswith("| trial")]


def test_the_answer_comes_first_with_what_it_is_measured_against() -> None:
    note = write_note(stored([record(0, 0.8), record(1, 0.4)]))

    assert note.startswith("**val_loss 0.4** with trial 1, against a baseline of 2.5 with SGD(lr=0.0001):")
    assert "adamw(lr=0.002)" in note


def test_the_note_says_how_to_train_with_it_in_three_lines_that_parse() -> None:
    note = write_note(stored([record(0, 0.8)], None, length={"max_epochs": 3}))
    code = note.split("```python\n")[1].split("```")[0].replace("...", "None")

    compile(code, "note", "exec")
    assert len(code.splitlines()) == 3
    assert "max_epochs=3" in code
    assert "RecipeCallback('best_recipe.yaml')" in code


def test_the_note_says_what_was_searched_and_what_it_cost() -> None:
    note = write_note(stored([record(0, 0.8), record(1, None, steps=50)]))

    assert "`Net` (12,345 parameters), space `wide`, 2 trials of up to 100 steps, seed 4" in note
    assert "2.5 full trainings of 100 steps (250 steps), 3 seconds of training." in note


def test_the_table_is_ranked_with_the_failures_last() -> None:
    rows = table_rows(write_note(stored([record(0, None, steps=7), record(1, 0.8), record(2, 0.4)])))

    assert [row.split(" | ")[0] for row in rows] == ["| 2", "| 1", "| 0"]
    assert "blow_up at step 7" in rows[2]


def test_a_long_table_is_cut_and_says_so() -> None:
    note = write_note(stored([record(number, 1.0 + number) for number in range(60)], None))

    assert len(table_rows(note)) == 50
    assert "\n\n... and 10 more.\n\n### Cost" in note


def test_a_note_fits_into_what_mlflow_takes_with_its_table_whole() -> None:
    note = write_note(stored([record(number, 1.0 + number) for number in range(200)], space_notes=("long " * 1300,)))

    assert len(note) <= 8000
    assert re.search(r"\.\.\. and 19\d more\.\n\n### Cost", note)


def test_where_no_trial_finished_the_note_says_that() -> None:
    assert write_note(stored([record(0, None)], BASELINE)).startswith("**No trial finished with a value.**")


def test_divergences_and_the_verdict_have_their_sections() -> None:
    note = write_note(stored([record(0, 0.8, lr=1e-3), record(1, None, lr=1.0)]), ["adamw beats your optimizer"])

    assert "### Verdict\n\n- adamw beats your optimizer" in note
    assert "### Warnings\n\n- adamw: 1 of 2 trials diverged, from a learning rate of 1" in note


def test_names_of_the_users_cannot_break_out() -> None:
    note = write_note(
        stored([record(0, 0.8)], monitor="a|b`c<script>", origin={"model_name": "N`et", "replaced": "![x](http://y)"})
    )

    assert "<script>" not in note
    assert "| trial | a\\|b'c&lt;script> |" in note
    assert "![x](" not in note
    assert escape_markdown("two\nlines") == "two lines"
