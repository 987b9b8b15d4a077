import re

import pytest

from opttune.report.page import write_page
from opttune.report.write import make_charts
from opttune.study.frozen_study import FrozenStudy
from tests.support.records import full_study, record, stored

MOST_BYTES = 3_000_000


def page(study: FrozenStudy, *verdict: str) -> str:
    return write_page(study, make_charts(study, {}), verdict)


def without_library(html: str) -> str:
    return re.sub(r"<script>.*?</script>", "", html, count=1, flags=re.DOTALL)


def test_the_page_needs_nothing_but_itself_and_is_small_enough() -> None:
    html = page(full_study())

    assert len(html.encode()) < MOST_BYTES
    own = without_library(html)
    assert not re.findall(r"(?:src|href)\s*=", own)
    assert html.count("window.vegaEmbed=") == 1


@pytest.mark.slow
def test_the_page_of_many_trials_is_small_enough_too() -> None:
    records = [record(n, 0.1 + (n * 37 % 100) / 50, lr=10 ** (n % 40 / 10 - 5)) for n in range(1000)]
    study = stored(records)
    curve = {"val_loss": [(s, 1 / s) for s in range(1, 101)], "train/loss": [(s, 1 / s) for s in range(1, 1001)]}
    html = write_page(study, make_charts(study, dict.fromkeys(range(1000), curve)))

    assert len(html.encode()) < MOST_BYTES


def test_the_answer_is_first_and_every_trial_is_in_the_table() -> None:
    html = without_library(page(full_study(), "muon beats your optimizer"))

    assert html.index(
        "<b>val_loss 0.0001</b> with trial 3, against a baseline of 2.5 with SGD(lr=0.0001)"
    ) < html.index("<h2>")
    assert "<li>muon beats your optimizer</li>" in html
    assert html.count("<tr class=") == 6
    assert html.count("<tr class='best'>") == 1
    assert {"diverged", "failed", "behind"} <= set(re.findall(r"<tr class='(\w+)'>", html))


def test_names_of_the_users_stay_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    html = without_library(
        page(stored([record(0, 0.1)], study_name=evil, monitor=evil, origin={"model_name": evil, "replaced": evil}))
    )

    assert "<img" not in html
    assert "&lt;img src=x" in html


def test_where_no_trial_finished_the_page_says_so() -> None:
    assert "<b>No trial finished with a value.</b>" in page(stored([record(0, None)]))
