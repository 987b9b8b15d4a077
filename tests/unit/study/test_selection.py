from math import inf, nan

import pytest

from opttune.errors import InputError
from opttune.outcome import StopReason
from opttune.study.selection import Reevaluation, best_record, expected_values, luck_warning, top_candidates
from opttune.trial_record import TrialRecord
from tests.support.records import make_outcome, make_trial


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
