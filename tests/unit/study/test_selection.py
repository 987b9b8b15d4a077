from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opttune.errors import InputError
from opttune.job import Role, TrainingJob
from opttune.outcome import StopReason
from opttune.recipe import Recipe
from opttune.study.selection import (
    Reevaluation,
    baseline_record,
    best_of,
    best_record,
    expected_values,
    is_better,
    luck_warning,
    top_candidates,
)
from opttune.trial_record import TrialRecord
from tests.support.records import make_outcome, make_run, make_trial
from tests.support.strategies import FAST


def trial(number: int, value: float | None, *again: float | None) -> TrialRecord:
    return make_trial(number, make_outcome(value), replicates=tuple(make_outcome(one) for one in again))


@pytest.mark.parametrize(("budget", "expected"), [(5.0, 0), (13.3, 0), (13.4, 2), (20.0, 3), (100.0, 3)])
def test_a_budget_pays_for_as_many_candidates_as_its_reserved_share_holds(budget: float, expected: int) -> None:
    assert Reevaluation().candidate_count(budget) == expected


def test_there_may_be_no_reevaluation_at_all() -> None:
    assert Reevaluation(most_candidates=0).candidate_count(100.0) == 0
    assert Reevaluation(share=0.0).candidate_count(100.0) == 0


@pytest.mark.parametrize("fields", [{"share": 1.0}, {"share": -0.1}, {"share": nan}, {"most_candidates": -1}])
def test_a_reevaluation_out_of_its_range_is_refused(fields: dict[str, float]) -> None:
    (name,) = fields
    with pytest.raises(InputError, match=f"Reevaluation: {name} must be"):
        Reevaluation(**fields)  # type: ignore[arg-type]


def test_the_top_candidates_are_those_with_the_best_values_the_earliest_of_equals_first() -> None:
    records = [trial(0, 3.0), trial(1, None), trial(2, 1.0), trial(3, 1.0), trial(4, 2.0)]

    assert [record.number for record in top_candidates(records, 3, "min")] == [2, 3, 4]
    assert [record.number for record in top_candidates(records, 2, "max")] == [0, 4]


def test_without_a_second_seed_a_value_is_what_is_expected() -> None:
    assert expected_values([trial(0, 3.0), trial(1, None), trial(2, 1.0)], "min") == {0: 3.0, 2: 1.0}


def test_a_trial_that_was_trained_again_counts_with_its_mean() -> None:
    assert expected_values([trial(0, 1.0, 2.0), trial(1, 1.25, 1.25)], "min") == {0: 1.5, 1: 1.25}


def test_a_trial_that_was_not_is_shifted_by_the_luck_of_those_that_were() -> None:
    expected = expected_values([trial(0, 1.0, 2.0), trial(1, 1.0, 1.5), trial(2, 3.0)], "min")

    assert expected == {0: 1.5, 1: 1.25, 2: 3.375}


@pytest.mark.parametrize(("mode", "worst"), [("min", inf), ("max", -inf)])
def test_a_recipe_that_diverges_on_the_second_seed_is_the_worst(mode: str, worst: float) -> None:
    assert expected_values([trial(0, 1.0, None), trial(1, 1.0, 1.5), trial(2, 2.0)], mode) == {
        0: worst,
        1: 1.25,
        2: 2.25,
    }


def test_an_error_of_the_users_code_says_nothing_of_the_recipe() -> None:
    record = make_trial(0, make_outcome(1.0), replicates=(make_outcome(None, StopReason.FAILED),))

    assert expected_values([record], "min") == {0: 1.0}


def test_a_value_of_zero_counts_as_any_other() -> None:
    assert expected_values([trial(0, 0.0, 1.0), trial(1, 0.25)], "min") == {0: 0.5, 1: 0.75}


def test_the_best_is_the_best_over_both_seeds_and_a_luckier_trial_is_named() -> None:
    records = [trial(0, 1.0, 2.0), trial(1, 1.1, 1.2), trial(2, 1.3)]
    best = best_record(records, "min")

    assert best == records[1]
    assert luck_warning(records, records[1], "val_loss", "min") == (
        "trial 0 had the best val_loss on the search's seed (1), but 2 on a second one; trial 1 is better over both."
    )
    assert luck_warning(records, records[0], "val_loss", "min") == ""


def test_where_every_candidate_diverges_again_the_best_is_one_that_was_not_tried() -> None:
    records = [trial(0, 1.0, None), trial(1, 1.1, None), trial(2, 1.3)]

    assert best_record(records, "min") == records[2]


OWN = Recipe.of_baseline()


def baseline_trial(number: int, value: float | None, *again: float | None) -> TrialRecord:
    return replace(trial(number, value, *again), recipe=OWN)


def baseline_run(value: float | None) -> TrialRecord:
    return make_run(TrainingJob(None, 0, Role.BASELINE), make_outcome(value))


def handed_out(
    records: list[TrialRecord], baseline: TrialRecord | None = None, mode: str = "min"
) -> TrialRecord | None:
    return best_of(records, baseline or baseline_record(records, []), mode)


def test_the_baseline_is_found_among_the_runs_and_the_trials() -> None:
    run, own = baseline_run(1.0), baseline_trial(1, 2.0)
    assert baseline_record([trial(0, 1.0)], []) is None
    assert baseline_record([trial(0, 1.0), own], []) == own
    # the run of its own has no recipe: it is handed out with one
    assert baseline_record([trial(0, 1.0)], [run]) == replace(run, recipe=OWN)


@pytest.mark.parametrize(("mode", "better", "worse"), [("min", 1.0, 2.0), ("max", 2.0, 1.0)])
@pytest.mark.parametrize("make", [lambda value: baseline_run(value), lambda value: baseline_trial(1, value)])
def test_a_trial_is_handed_out_only_where_it_beats_the_baseline(
    make: Any, mode: str, better: float, worse: float
) -> None:
    for own, value, beats in ((worse, better, True), (better, worse, False), (better, better, False)):
        baseline = make(own)
        records = [trial(0, value), *([baseline] if baseline.is_trial else [])]
        found = best_of(records, baseline_record(records, [] if baseline.is_trial else [baseline]), mode)
        assert found is not None
        assert found.is_baseline is not beats
        assert found.value == (value if beats else own)
        assert found.recipe == (None if beats else OWN)


def test_a_trial_that_was_only_lucky_does_not_beat_it() -> None:
    # better on the search's seed, worse over both
    records = [trial(0, 1.0, 3.0), baseline_trial(1, 1.5, 1.5)]
    assert handed_out(records) == records[1]
    # better over both, worse on the search's seed: a user would compare best_value with baseline_value
    records = [trial(0, 1.6, 1.0), baseline_trial(1, 1.5, 2.0)]
    assert handed_out(records) == records[1]
    records = [trial(0, 1.4, 1.6), baseline_trial(1, 1.5, 2.0)]
    assert handed_out(records) == records[0]


def test_a_baseline_of_one_seed_is_compared_as_if_it_had_been_lucky_too() -> None:
    # both seeds of the trial are worse by 0.25 on average, and so it is held to be of the baseline
    assert handed_out([trial(0, 1.0, 1.5)], baseline_run(1.1)) == trial(0, 1.0, 1.5)
    assert handed_out([trial(0, 1.0, 1.5), baseline_trial(1, 1.1)]) == trial(0, 1.0, 1.5)


def test_the_baseline_is_handed_out_where_it_diverges_on_the_second_seed_only_if_nothing_is_better() -> None:
    records = [trial(0, 2.0, 2.0), baseline_trial(1, 1.0, None)]
    # on the search's seed it is the better one: nothing that is handed out may be worse there
    assert handed_out(records) == records[1]


def test_without_a_value_of_the_baseline_the_best_trial_is_handed_out() -> None:
    records = [trial(0, 2.0), trial(1, 1.0), baseline_trial(2, None)]
    assert handed_out(records) == records[1]
    assert handed_out([trial(0, 2.0)], baseline_run(None)) == trial(0, 2.0)
    assert best_of([trial(0, 2.0)], None, "min") == trial(0, 2.0)


def test_the_baseline_alone_is_handed_out() -> None:
    own = baseline_trial(0, 1.0)
    assert handed_out([own]) == own
    assert handed_out([own, trial(1, None)]) == own
    assert handed_out([trial(0, None), baseline_trial(1, None)]) is None


@FAST
@given(
    st.lists(st.tuples(st.floats(-2, 2), st.lists(st.none() | st.floats(-2, 2), max_size=2)), min_size=1, max_size=6),
    st.floats(-2, 2) | st.none(),
    st.booleans(),
    st.sampled_from(["min", "max"]),
)
def test_what_is_handed_out_is_never_worse_than_the_baseline(
    values: list[tuple[float, list[float | None]]], own: float | None, is_trial: bool, mode: str
) -> None:
    records = [trial(number, value, *again) for number, (value, again) in enumerate(values)]
    if is_trial:
        records[-1] = replace(records[-1], recipe=OWN)
    baseline = baseline_record(records, [] if is_trial else [baseline_run(own)])
    found = best_of(records, baseline, mode)
    assert found is not None
    assert baseline is not None
    assert not is_better(baseline.value, found.value, mode)


def test_of_a_baseline_that_a_rule_ended_the_repetition_counts() -> None:
    own = Recipe.of_baseline()
    ended = make_trial(0, make_outcome(None, StopReason.BLOW_UP, steps=20), recipe=own)
    running = make_trial(1, None, recipe=own, state="running")
    finished = make_trial(1, make_outcome(0.3), recipe=own)

    for records, number in (([ended], 0), ([ended, running], 1), ([ended, finished], 1)):
        found = baseline_record(records, [])
        assert found is not None
        assert found.number == number
