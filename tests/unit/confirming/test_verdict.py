import json
from collections.abc import Sequence

import pytest

from opttune.confirming.candidates import Candidate, choose_candidates
from opttune.confirming.verdict import Verdict, plus_minus, study_verdict
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.trial_record import TrialRecord
from tests.support.records import BASELINE, make_run, record, stored

RECORDS = [record(0, 0.1, lr=3.1e-4), record(1, 0.2, optimizer="muon", lr=2e-2)]
GOOD = [0.30, 0.31, 0.29, 0.32, 0.30]
LIKE_IT = [0.31, 0.30, 0.29, 0.31, 0.31]
BAD = [0.80, 0.83, 0.79, 0.81, 0.81]


def run(candidate: Candidate, seed: int, value: float | None, number: int = 0) -> TrialRecord:
    reason = StopReason.COMPLETED if value is not None else StopReason.NON_FINITE
    job = TrainingJob(candidate.recipe, seed, Role.CONFIRMATION, label=candidate.label)
    return make_run(job, Outcome(reason, value, 100, 100, 1.0), number)


def verdict_of(*values: Sequence[float | None], mode: str = "min", is_instance: bool = False) -> Verdict:
    records = RECORDS if mode == "min" else [record(0, 0.3, lr=3.1e-4), record(1, 0.2, optimizer="muon", lr=2e-2)]
    baseline = None if mode == "max" else BASELINE
    candidates = choose_candidates(stored(records, baseline, mode=mode), top=2)
    runs = [
        run(candidate, seed, value)
        for candidate, of_one in zip(candidates, values, strict=False)
        for seed, value in enumerate(of_one, 1)
    ]
    confirmed = {
        "candidates": [candidate.to_dict() for candidate in candidates],
        "seeds": list(range(1, len(values[0]) + 1)),
        "is_instance": is_instance,
    }
    verdict = study_verdict(stored(records, baseline, mode=mode, confirmed=confirmed, runs=runs))
    assert verdict is not None
    return verdict


def test_the_sentence_says_what_is_real_and_what_is_not() -> None:
    verdict = verdict_of(GOOD, LIKE_IT, BAD, BAD)

    assert verdict.sentences == (
        "muon 2e-2 and adamw 3.1e-4 are not distinguishable at this budget; "
        "adamw 3.1e-4 beats your optimizer by 0.504 +/- 0.014 (5 seeds); "
        "adamw 3.1e-4 beats AdamW's default by 0.504 +/- 0.014 (5 seeds)",
    )


def test_of_few_seeds_it_says_that_they_tell_little_where_something_is_open() -> None:
    few, all_clear = verdict_of(GOOD[:3], LIKE_IT[:3], BAD[:3], BAD[:3]), verdict_of(GOOD[:3], BAD[:3], BAD[:3])

    assert few.sentences[1] == "3 seeds are too few for most differences: use --seeds 5"
    assert len(all_clear.sentences) == 1


def test_one_that_is_better_than_the_winner_of_the_search_is_said_to_be() -> None:
    verdict = verdict_of(BAD, GOOD, BAD, BAD)

    assert verdict.sentences[0].startswith("muon 2e-2 beats adamw 3.1e-4 by 0.504")


def test_of_an_instance_it_says_that_all_seeds_have_its_weights() -> None:
    values = (GOOD, LIKE_IT, BAD, BAD)
    (note,) = set(verdict_of(*values, is_instance=True).sentences) - set(verdict_of(*values).sentences)

    assert note.startswith("every training started from the weights of the given instance")


def test_of_a_metric_that_is_to_rise_the_higher_is_better() -> None:
    verdict = verdict_of(BAD, GOOD, GOOD, GOOD, mode="max")

    assert verdict.sentences[0].startswith("adamw 3.1e-4 beats muon 2e-2 by 0.504")


def test_a_candidate_without_a_value_on_a_seed_is_not_better_and_is_named() -> None:
    verdict = verdict_of([*GOOD[:4], None], LIKE_IT, BAD, BAD)

    assert "beats your optimizer" not in verdict.sentences[0]
    assert "adamw 3.1e-4 gave no value on 1 of 5 seeds" in verdict.sentences[1:]
    assert verdict.results[0].failures == 1


def test_a_candidate_without_any_value_is_only_named() -> None:
    verdict = verdict_of(GOOD, [None] * 5, BAD, BAD)

    assert "muon" not in verdict.sentences[0]
    assert "muon 2e-2 gave no value on 5 of 5 seeds" in verdict.sentences[1:]


def test_a_seed_that_changes_nothing_tells_nothing() -> None:
    verdict = verdict_of([0.3] * 5, [0.2] * 5, [0.8] * 5, [0.8] * 5)

    assert "beats" not in verdict.sentences[0]
    assert "the seed changes nothing" in verdict.sentences[-1]


def test_trainings_that_are_not_done_yet_are_left_out() -> None:
    verdict = verdict_of(GOOD, LIKE_IT, BAD, BAD[:3])

    assert verdict.results[3].against is not None
    assert verdict.results[3].against.difference.count == 3
    assert "(3 seeds)" in verdict.sentences[0] or "AdamW's default and" in verdict.sentences[0]


def test_two_trials_of_one_recipe_are_not_distinguishable() -> None:
    candidate = Candidate("trial", RECORDS[0].recipe, (0, 4), "adamw 3.1e-4")
    confirmed = {"candidates": [candidate.to_dict()], "seeds": [1]}
    verdict = study_verdict(stored(RECORDS, confirmed=confirmed, runs=[run(candidate, 1, 0.3)]))

    assert verdict is not None
    assert verdict.sentences == ("trials 0, 4 have the same recipe (adamw 3.1e-4): they are not distinguishable",)


def test_before_any_training_there_is_no_verdict() -> None:
    candidates = choose_candidates(stored(RECORDS), top=1)
    confirmed = {"candidates": [candidate.to_dict() for candidate in candidates], "seeds": [1]}
    under_way = make_run(TrainingJob(candidates[0].recipe, 1, Role.CONFIRMATION), None)

    assert study_verdict(stored(RECORDS)) is None
    assert study_verdict(stored(RECORDS, confirmed=confirmed, runs=[under_way])) is None


def test_only_confirmations_on_the_verdicts_seeds_give_it_values() -> None:
    candidates = choose_candidates(stored(RECORDS), top=1)[:2]
    confirmed = {"candidates": [candidate.to_dict() for candidate in candidates], "seeds": [1]}
    winner, own = candidates
    done = Outcome(StopReason.COMPLETED, 0.7, 100, 100, 1.0)
    runs = [
        run(winner, 1, 0.3),
        run(winner, 2, 0.9),
        run(own, 1, None),
        make_run(TrainingJob(winner.recipe, 1, Role.REPLICATE, 0), done),
        make_run(TrainingJob(None, 1, Role.BASELINE), done),
    ]
    verdict = study_verdict(stored(RECORDS, None, confirmed=confirmed, runs=runs))

    assert verdict is not None
    assert [dict(each.values) for each in verdict.results] == [{1: 0.3}, {1: None}]


def test_json_holds_it_all() -> None:
    plain = json.loads(json.dumps(verdict_of(GOOD, LIKE_IT, BAD, BAD).to_dict(), allow_nan=False))

    assert [each["label"] for each in plain["candidates"]] == [
        "adamw 3.1e-4", "muon 2e-2", "your optimizer", "AdamW's default",
    ]  # fmt: skip
    assert [each["is_distinguishable"] for each in plain["candidates"]] == [None, False, True, True]
    assert plain["candidates"][0]["values"]["4"] == 0.32


@pytest.mark.parametrize(
    ("value", "half_width", "shown"),
    [(0.1234, 0.0346, "0.123 +/- 0.035"), (12.3, 4.56, "12.3 +/- 4.6"), (1234.0, 567.0, "1234 +/- 567")],
)
def test_a_value_has_as_many_digits_as_its_interval_bears(value: float, half_width: float, shown: str) -> None:
    assert plus_minus(value, half_width) == shown
