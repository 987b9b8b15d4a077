from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.algorithms.successive_halving import Promote, Start
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.runtime.policy import Action, Repeat, SearchPolicy, Spent, StartBaseline, Train, baseline_parameters
from opttune.space.auto import ModelFacts
from opttune.space.parse import load_space
from opttune.study.config import SearchConfig
from opttune.study.selection import Reevaluation, baseline_record
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord
from tests.support.records import make_outcome, make_pause, make_run, make_trial
from tests.support.searches import make_space

TOTAL = 100
INSPECTION = ModelInspection("Net", 10, TOTAL, "", has_own_optimizer=False, facts=ModelFacts(10))
PLAN = SearchConfig(
    make_space("optimizer: {sgd: {lr: {low: 0.1, high: 1.0, source: test}}}\nschedule: {constant: {}}"),
    *("val_loss", "min", {"max_steps": TOTAL}, "study", Path("runs/study")),
)
THREE_RECIPES = make_space("optimizer: {sgd: {lr: {choices: [0.1, 0.2, 0.3], source: test}}}\nschedule: {constant: {}}")


def search_policy(inspection: ModelInspection = INSPECTION, **settings: Any) -> SearchPolicy:
    return SearchPolicy(replace(PLAN, **settings), inspection)


def next_of(
    policy: SearchPolicy, records: Sequence[TrialRecord], left: int, under_way: Sequence[TrainingJob] = ()
) -> Action | None:
    """Return what is next where that many steps are left, beside those that the runs under way will do."""
    runs = [make_run(job, None, number) for number, job in enumerate(under_way)]
    spent = int(policy.config.budget * TOTAL) - left - TOTAL * len(runs)
    return policy.next_action(records, runs, Spent(spent))


def replicate(number: int) -> Train:
    return Train(TrainingJob(None, PLAN.second_seed, Role.REPLICATE, number))


OWN = replace(INSPECTION, has_own_optimizer=True, replaced="SGD(lr=0.1)")
BASELINE = TrainingJob(None, PLAN.seed, Role.BASELINE)
REEVALUATION: dict[str, Any] = {"budget": 20.0, "reevaluation": Reevaluation(share=0.1, most_candidates=2)}
RUNGS = search_policy().rungs


def pause(value: float, steps: int) -> Outcome:
    return make_pause(value, steps, TOTAL)


def trial(number: int, *values: float, ended: StopReason | None = None) -> TrialRecord:
    """A trial that has passed a rung for each value; one that ended has the last at its end."""
    at_rungs = values[:-1] if ended is not None and ended.has_value else values
    pauses = tuple(pause(value, rung) for value, rung in zip(at_rungs, RUNGS, strict=False))
    outcome = None
    if ended is not None:
        steps = TOTAL if ended.counts else max((one.steps for one in pauses), default=0) + 3
        outcome = make_outcome(values[-1] if ended.has_value else None, ended, steps=steps, total_steps=TOTAL)
    return make_trial(number, outcome, state="waiting" if outcome is None else "complete", pauses=pauses)


def finished(number: int, *values: float) -> TrialRecord:
    return trial(number, *values, ended=StopReason.COMPLETED)


def again(record: TrialRecord, value: float) -> TrialRecord:
    return replace(record, replicates=(make_outcome(value, total_steps=TOTAL),))


def pool(values: Sequence[float]) -> list[TrialRecord]:
    return [trial(number, value) for number, value in enumerate(values)]


FIVE = [3.0, 1.0, 2.0, 5.0, 4.0]


def test_the_rungs_follow_from_the_length_and_end_with_it() -> None:
    assert RUNGS[-1] == TOTAL
    assert len(RUNGS) == len(PLAN.halving_for(TOTAL).shares) + 1
    assert search_policy(replace(INSPECTION, total_steps=7)).rungs == (7,)


def test_rungs_move_behind_the_longest_warmup_of_the_space() -> None:
    warm = make_space("optimizer: {sgd: {lr: 0.1}}\nschedule: {linear: {warmup_fraction: 0.25}}")

    assert search_policy(space=warm).rungs[0] == 25


THREE = [finished(number, 2.0 + number, 1.5 + number, 1.0 + number) for number in range(3)]


def test_a_search_starts_with_a_trial_and_continues_with_it() -> None:
    assert next_of(search_policy(), [], 1000) == Start()
    assert next_of(search_policy(), [trial(0, 1.0)], 1000) == Promote(0)
    assert next_of(search_policy(), [*THREE, trial(3, 9.0)], 1000) == Start()


def test_where_more_is_better_the_larger_is_promoted() -> None:
    highest = [finished(number, 0.2 + number / 10, 0.5, 0.8) for number in range(3)]

    assert next_of(search_policy(mode="max"), [*highest, trial(3, 0.9)], 1000) == Promote(3)
    assert next_of(search_policy(mode="max"), [*highest, trial(3, 0.1)], 1000) == Start()


def test_trials_that_have_shown_nothing_yet_are_passed_over() -> None:
    waits = make_trial(3)

    assert next_of(search_policy(), [waits], 1000) == Start()
    assert next_of(search_policy(), [*THREE, waits], 1000) == Start()


def test_what_was_given_up_is_not_promoted() -> None:
    assert next_of(search_policy(), [trial(0, 1.0, 1.0, ended=StopReason.OUTRANKED)], 1000) == Start()


def test_nothing_is_left_to_pay() -> None:
    assert next_of(search_policy(), [], TOTAL - 1) is None
    assert next_of(search_policy(), pool(FIVE), TOTAL - RUNGS[0] - 1) is None


def test_a_trial_that_was_stopped_resumes_though_a_whole_one_could_not_be_paid() -> None:
    begun = make_trial(0, recipe=trial(0, 1.0).recipe, stopped_at=7)
    promoted = replace(trial(0, 1.0), stopped_at=RUNGS[0] + 7)

    assert next_of(search_policy(), [begun], TOTAL - 7) == Start()
    assert next_of(search_policy(), [begun], TOTAL - 8) is None
    assert next_of(search_policy(), [promoted], TOTAL - RUNGS[0] - 7) == Promote(0)
    assert next_of(search_policy(), [promoted], TOTAL - RUNGS[0] - 8) is None


def test_an_interrupted_trial_goes_before_everything_that_is_new() -> None:
    policy = search_policy(**REEVALUATION)
    interrupted = make_trial(3, recipe=Recipe(Part("sgd", {"lr": 0.1})), lost_steps=7)

    assert next_of(policy, THREE, 2 * TOTAL) == replicate(0)
    assert next_of(policy, [*THREE, interrupted], 2 * TOTAL) == Start()
    assert next_of(policy, [*THREE, interrupted, trial(4, 0.1, 0.1)], 2 * TOTAL) == Start()
    # what it needs is the one thing that it cannot go before
    assert next_of(policy, [*THREE, interrupted], TOTAL - 1) is None
    assert next_of(search_policy(OWN, **REEVALUATION), [*THREE, interrupted], 2 * TOTAL - 1) == Train(BASELINE)


def test_the_limit_of_trials_leaves_those_that_are_not_among_the_better() -> None:
    limited = search_policy(most_trials=4)

    assert next_of(limited, THREE, 1000) == Start()
    assert next_of(limited, [*THREE, trial(3, 1.0)], 1000) == Promote(3)
    assert next_of(limited, [*THREE, trial(3, 9.0)], 1000) is None
    assert next_of(search_policy(), [*THREE, trial(3, 9.0)], 1000) == Start()


@pytest.mark.parametrize("reason", [StopReason.NON_FINITE, StopReason.FAILED])
def test_a_limited_search_continues_until_one_trial_has_finished(reason: StopReason) -> None:
    dead = [trial(number, *values, ended=reason) for number, values in enumerate([(1.0, 0.9), (2.0, 1.9)])]
    records = [*dead, trial(2, 3.0), trial(3, 4.0)]

    assert next_of(search_policy(most_trials=4), records, 1000) == Promote(2)


def test_a_space_of_few_recipes_tries_all_and_uses_the_budget_up() -> None:
    few = search_policy(space=THREE_RECIPES)
    records = [finished(0, 1.0, 0.9, 0.8), finished(1, 2.0, 1.9, 1.8), trial(2, 3.0)]

    assert next_of(few, records[:2], 1000) == Start()
    assert next_of(few, records, 1000) == Promote(2)
    done = [*records[:2], finished(2, 3.0, 2.9, 2.8)]
    assert next_of(few, done, 1000) == replicate(0)
    assert next_of(few, [again(record, 1.0) for record in done], 1000) is None


def test_the_last_share_of_the_budget_is_for_the_candidates_the_best_first() -> None:
    best, second, third = THREE

    assert next_of(search_policy(**REEVALUATION), THREE, 3 * TOTAL) == Start()
    assert next_of(search_policy(**REEVALUATION), THREE, 3 * TOTAL - 1) == replicate(0)
    assert next_of(search_policy(**REEVALUATION), [again(best, 1.1), second, third], 2 * TOTAL - 1) == replicate(1)
    assert next_of(search_policy(**REEVALUATION), [again(best, 1.1), again(second, 2.1), third], TOTAL - 1) is None


def test_a_candidate_that_the_budget_does_not_pay_for_is_not_trained_again() -> None:
    assert next_of(search_policy(**REEVALUATION), THREE, TOTAL - 1) is None


def test_what_the_candidates_leave_of_the_budget_pays_for_more_trials() -> None:
    done = [again(THREE[0], 1.1), again(THREE[1], 2.1), THREE[2]]

    assert next_of(search_policy(**REEVALUATION), done, TOTAL) == Start()


def test_a_budget_is_held_back_for_candidates_that_are_still_to_come_but_not_left_over() -> None:
    dead = [trial(number, 1.0, ended=StopReason.NON_FINITE) for number in range(3)]

    assert next_of(search_policy(**REEVALUATION), [*dead, trial(3, 1.0)], 2 * TOTAL + TOTAL - RUNGS[0]) == Promote(3)
    assert next_of(search_policy(**REEVALUATION), dead, 2 * TOTAL) == Start()
    assert next_of(search_policy(**REEVALUATION), [*dead, THREE[0]], 2 * TOTAL) == Start()


def test_where_several_train_the_candidates_are_replicated_while_the_others_continue() -> None:
    alone, four = search_policy(budget=20.0), search_policy(budget=20.0, workers=4)
    begun = [trial(3, 9.0)]

    # three trainings are held back; 20% of the budget would be four, but only three others train on
    assert next_of(four, [*THREE, *begun], 3 * TOTAL + 301) == Start()
    assert next_of(alone, [*THREE, *begun], 3 * TOTAL + 300) == Start()
    assert next_of(four, [*THREE, *begun], 3 * TOTAL + 300) == replicate(0)
    assert next_of(four, [*THREE, *begun], 2 * TOTAL + 300, [replicate(0).job]) == replicate(1)
    assert next_of(four, [*THREE, *begun], 300, [replicate(number).job for number in range(3)]) == Start()


def test_of_few_trials_or_with_many_workers_the_budget_says_when_the_candidates_are_replicated() -> None:
    many = search_policy(budget=20.0, workers=64)

    assert next_of(many, [*THREE, trial(3, 9.0)], 3 * TOTAL + 401) == Start()
    assert next_of(many, [*THREE, trial(3, 9.0)], 3 * TOTAL + 400) == replicate(0)


def test_a_candidate_that_comes_after_they_were_chosen_is_not_waited_for() -> None:
    repeated = [again(record, 5.0) for record in THREE]
    better = finished(3, 1.0, 0.9, 0.5)

    assert next_of(search_policy(budget=20.0, workers=4), [*repeated, better], 150) == Start()
    assert next_of(search_policy(budget=20.0, workers=4), [*repeated, better], 99) is None
    assert next_of(search_policy(budget=20.0), [*repeated, better], 150) == replicate(3)


@pytest.mark.parametrize(
    ("workers", "budget", "move"), [(1, 101.0, Promote(5)), (2, 100.0, Promote(5)), (2, 101.0, None)]
)
def test_the_rest_of_a_large_budget_is_not_waited_for_where_several_train(
    workers: int, budget: float, move: Promote | None
) -> None:
    repeated = [again(record, 5.0) for record in THREE]
    records = [*repeated, finished(3, 9.0, 8.0, 7.0), finished(4, 9.1, 8.1, 7.1), trial(5, 99.0)]

    assert next_of(search_policy(budget=budget, workers=workers), records, TOTAL - 1) == move


def test_a_limit_of_trials_and_a_small_budget_end_without_a_reevaluation() -> None:
    assert next_of(search_policy(**REEVALUATION, most_trials=3), THREE, 5 * TOTAL) is None
    assert next_of(search_policy(**{**REEVALUATION, "budget": 19.0}), THREE, TOTAL - 1) is None
    assert next_of(search_policy(**{**REEVALUATION, "budget": 19.0}), THREE, TOTAL) == Start()


def test_the_candidates_are_the_best_of_the_finished() -> None:
    assert search_policy(**REEVALUATION).top_candidates([*THREE, trial(3, 0.1)]) == [0, 1]
    assert search_policy(**REEVALUATION, mode="max").top_candidates(THREE) == [2, 1]


def test_why_a_search_ended_is_said_where_all_recipes_were_tried() -> None:
    records = pool(FIVE[:3])

    assert search_policy(space=THREE_RECIPES).why_ended(records) == "all 3 recipes of the space tiny have been tried"
    assert search_policy(space=THREE_RECIPES).why_ended(records[:2]) == ""
    assert search_policy(space=THREE_RECIPES, most_trials=3).why_ended(records) == ""
    assert search_policy().why_ended(records) == ""


def test_a_trial_is_trained_to_the_next_rung() -> None:
    fresh = make_trial(0, state="running")
    at_rungs = [fresh, trial(0, 1.0), trial(0, 1.0, 0.9)]

    assert tuple(map(search_policy().next_rung, at_rungs)) == RUNGS


def test_the_optimizer_of_a_trial_is_known_to_successive_halving() -> None:
    adamw, muon = (Recipe(Part(name, {"lr": 0.1})) for name in ("adamw", "muon"))
    quick = [replace(finished(number, 0.1, 0.1, 0.1 / (1 + number)), recipe=adamw) for number in range(3)]

    assert next_of(search_policy(), [*quick, replace(trial(3, 9.0), recipe=muon)], 1000) == Promote(3)
    assert next_of(search_policy(), [*quick, replace(trial(3, 9.0), recipe=adamw)], 1000) == Start()


def test_where_others_are_under_way_the_latest_is_one_of_several() -> None:
    overfitting = [finished(number, 1.0, 2.0, 3.0 + number) for number in range(3)]
    waiting = trial(3, 9.0)
    running = replace(trial(5), state="running")

    assert next_of(search_policy(budget=10.0), [*overfitting, waiting, trial(4, 9.5), running], 1000) == Promote(3)
    assert next_of(search_policy(budget=10.0), [*overfitting, waiting, finished(4, 1.0, 2.0, 9.5)], 1000) == Start()


def test_the_worst_of_a_full_pool_can_be_given_up() -> None:
    done = [finished(number, 2.0 + number, 1.0 + number, number / 10) for number in range(10)]
    crowd = [*done, *(trial(10 + number, 20.0 + number) for number in range(12))]

    assert search_policy().to_discard(crowd[:12]) == []
    # half of the 22 are promoted, so that eleven wait
    assert search_policy().to_discard(crowd) == [16, 17, 18, 19, 20, 21]


def test_every_shipped_space_has_rungs_that_end_with_the_length() -> None:
    for name in ("wide", "adamw", "vision_sgd", "finetune"):
        rungs = search_policy(space=load_space(name)).rungs
        assert rungs == tuple(sorted(set(rungs)))
        assert rungs[-1] == TOTAL


DONE = Outcome(StopReason.COMPLETED, 0.5, TOTAL, TOTAL, 1.0)


@pytest.mark.parametrize("spent", [Spent(0), Spent(10 * TOTAL), Spent(0, 99.0, is_late=True)])
@pytest.mark.parametrize("job", [BASELINE, TrainingJob(None, PLAN.second_seed, Role.REPLICATE, 0)])
def test_an_auxiliary_run_that_waits_is_resumed_first_also_when_it_is_late(job: TrainingJob, spent: Spent) -> None:
    waiting = make_run(job, None, state="waiting")

    assert search_policy(OWN, budget=10.0).next_action(THREE, [waiting], spent) == Train(job)


def test_the_confirmations_of_a_verdict_are_not_the_searchs_to_resume_or_to_pay() -> None:
    waiting = make_run(TrainingJob(None, 9, Role.CONFIRMATION), None, state="waiting")

    assert search_policy(budget=1.0).next_action([], [waiting], Spent(0)) == Start()


def test_when_it_is_late_nothing_is_begun() -> None:
    assert search_policy(OWN, budget=10.0).next_action(THREE, [], Spent(0, is_late=True)) is None


def test_the_baseline_is_trained_once_a_quarter_of_the_budget_is_spent_and_a_trial_has_finished() -> None:
    policy = search_policy(OWN, budget=8.0)

    assert policy.next_action(THREE[:1], [], Spent(2 * TOTAL - 1)) == Start()
    assert policy.next_action(THREE[:1], [], Spent(2 * TOTAL)) == Train(BASELINE)
    assert policy.next_action([trial(0, 1.0)], [], Spent(2 * TOTAL)) == Promote(0)
    timed = search_policy(OWN, budget=8.0, timeout_seconds=100.0)
    assert timed.next_action(THREE[:1], [], Spent(0, seconds=24.0)) == Start()
    assert timed.next_action(THREE[:1], [], Spent(0, seconds=25.0)) == Train(BASELINE)


def test_the_training_of_the_baseline_is_held_in_reserve() -> None:
    assert search_policy(OWN, budget=2.0).next_action([], [], Spent(0)) == Start()
    # what is left pays for the baseline alone
    assert search_policy(OWN, budget=2.0).next_action([], [], Spent(1)) == Train(BASELINE)
    assert search_policy(OWN, budget=2.0).next_action([], [], Spent(TOTAL + 1)) is None
    # a smaller budget pays for one training, which is that of a recipe
    assert search_policy(OWN, budget=1.9).next_action([], [], Spent(0)) == Start()
    assert search_policy(OWN, budget=1.9, with_baseline=False).next_action([], [], Spent(0)) == Start()
    assert search_policy(budget=1.9).next_action([], [], Spent(0)) == Start()


def test_the_baseline_is_trained_once_and_its_remaining_steps_are_promised() -> None:
    running = make_run(BASELINE, None, stopped_at=40)
    policy = search_policy(OWN, budget=2.0)

    assert policy.next_action([], [running], Spent(40)) == Start()
    assert policy.next_action([], [running], Spent(41)) is None
    assert policy.next_action([], [make_run(BASELINE, DONE)], Spent(TOTAL)) == Start()
    assert policy.next_action(THREE[:1], [make_run(BASELINE, DONE)], Spent(TOTAL + 1)) is None


WITH_OWN = make_space(
    "optimizer:\n  sgd: {lr: {low: 0.1, high: 1.0, source: test}}\n"
    "  own: {lr_factor: {low: 0.1, high: 10, log: true, prior: 1.0, source: test}}\nschedule: {constant: {}}"
)
BASELINE_RECIPE = Recipe.of_baseline()


def own_policy(**settings: Any) -> SearchPolicy:
    return search_policy(OWN, **{"space": WITH_OWN, "budget": 8.0, **settings})


MOVED = [replace(one, recipe=Recipe(Part("own", {"lr_factor": 2.0 + one.number}), Part("own"))) for one in THREE]


def baseline_trial(number: int, *values: float, ended: StopReason | None = None) -> TrialRecord:
    return replace(trial(number, *values, ended=ended), recipe=BASELINE_RECIPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optimizer: own", {}),
        ("optimizer: {own: {lr_factor: {low: 0.1, high: 10, log: true, prior: 1.0}}}", {"own.lr_factor": 1.0}),
        # nothing of it is the baseline
        ("optimizer: {own: {lr_factor: {low: 2.0, high: 10, log: true}}}", None),
        ("optimizer: {own: {lr_factor: 2.0}}", None),
        ("optimizer: own\nschedule: cosine", None),
        ("optimizer: own\ngradient_clip_norm: 1.0", None),
        ("optimizer: adamw", None),
        # a prior elsewhere, as of an earlier study, does not take it out
        (
            "optimizer: {own: {lr_factor: {low: 0.1, high: 10, log: true, prior: 5.0}, weight_decay_factor: "
            "{choices: [0.0, 1.0]}}}\nschedule: {cosine: {}, own: {}}\ngradient_clip_norm: {choices: [1.0, null]}\n"
            "accumulate_grad_batches: {low: 1, high: 4, prior: 2}",
            {
                "schedule": "own",
                "own.lr_factor": 1.0,
                "own.weight_decay_factor": 1.0,
                "gradient_clip_norm": None,
                "accumulate_grad_batches": 1,
            },
        ),
        ("optimizers: [own, own]", {}),
        ("optimizers: [own, adamw]", None),
        ("optimizer: {own: {}, adamw: {}}", {"optimizer": "own"}),
        # beside others own keeps its schedule and the Trainer's settings
        ("optimizer: {adamw: {}, own: {}}\nschedule: {cosine: {}, linear: {}}", {"optimizer": "own"}),
        ("optimizer: {adamw: {}, own: {}}\ngradient_clip_norm: {choices: [1.0, null]}", {"optimizer": "own"}),
    ],
)
def test_a_space_holds_the_baseline_or_not(text: str, expected: Any) -> None:
    assert baseline_parameters(make_space(text)) == expected


def test_the_baseline_is_a_trial_where_the_space_holds_it() -> None:
    policy = own_policy()

    assert policy.next_action(THREE[:1], [], Spent(2 * TOTAL - 1)) == Start()
    assert policy.next_action(THREE[:1], [], Spent(2 * TOTAL)) == StartBaseline()
    timed = own_policy(timeout_seconds=100.0)
    assert timed.next_action(THREE[:1], [], Spent(0, seconds=24.0)) == Start()
    assert timed.next_action(THREE[:1], [], Spent(0, seconds=25.0)) == StartBaseline()


def test_it_is_begun_once_however_it_ended() -> None:
    for own in (
        baseline_trial(1, 9.0),
        baseline_trial(1, ended=StopReason.NON_FINITE),
        baseline_trial(1, ended=StopReason.FAILED),
    ):
        assert own_policy().next_action([THREE[0], own], [], Spent(3 * TOTAL)) != StartBaseline()


def test_as_a_trial_it_is_trained_to_its_end_from_half_of_the_budget_on() -> None:
    records = [*MOVED, baseline_trial(3, 9.0)]
    in_ranks = {"budget": 20.0, "halving": replace(PLAN.halving_for(TOTAL), line_search=False)}

    # a trial of its rank waits
    assert own_policy(**in_ranks).next_action(records, [], Spent(10 * TOTAL - 1)) == Start()
    assert own_policy(**in_ranks).next_action(records, [], Spent(10 * TOTAL)) == Promote(3)
    timed = own_policy(**in_ranks, timeout_seconds=100.0)
    assert timed.next_action(records, [], Spent(0, seconds=49.0)) == Start()
    assert timed.next_action(records, [], Spent(0, seconds=50.0)) == Promote(3)
    # and a good one goes up as any other
    assert own_policy().next_action([*THREE, baseline_trial(3, 0.5)], [], Spent(3 * TOTAL)) == Promote(3)


def test_the_rest_of_its_training_is_held_in_reserve_to_the_last() -> None:
    paused = baseline_trial(3, 9.0)
    left = TOTAL - RUNGS[0]

    # what is left pays for the baseline alone
    assert own_policy().next_action([*THREE, paused], [], Spent(8 * TOTAL - left)) == Promote(3)
    assert own_policy().next_action([*THREE, paused], [], Spent(8 * TOTAL - left + 1)) is None
    assert own_policy(budget=2.0).next_action([], [], Spent(1)) == StartBaseline()
    assert own_policy(budget=0.9).next_action([], [], Spent(0)) is None


def test_it_is_not_given_up_as_other_trials_are() -> None:
    records = [*THREE, *(finished(number, 1.0, 0.5, 0.1 * number) for number in range(4, 9))]
    records.insert(3, baseline_trial(3, 9.0))
    outranked = [replace(one, recipe=None) if one.number == 3 else one for one in records]

    assert 3 not in own_policy().to_discard(records)
    assert own_policy(with_baseline=False).to_discard(records) == own_policy().to_discard(outranked)


def test_the_limit_of_trials_does_not_count_it() -> None:
    limited = own_policy(most_trials=3)
    records = [*THREE[:2], baseline_trial(2, 3.0, 2.5, 2.0, ended=StopReason.COMPLETED)]

    assert limited.next_action(records, [], Spent(3 * TOTAL)) == Start()
    assert limited.next_action([*records, finished(3, 2.0, 1.5, 1.2)], [], Spent(4 * TOTAL)) is None
    # not even a limit that is reached keeps it from being trained
    assert limited.next_action(THREE, [], Spent(3 * TOTAL)) == StartBaseline()
    assert own_policy(most_trials=3, with_baseline=False).next_action(records, [], Spent(3 * TOTAL)) is None


def test_without_a_baseline_the_recipe_is_a_trial_as_any_other() -> None:
    policy = own_policy(with_baseline=False, budget=20.0, halving=replace(PLAN.halving_for(TOTAL), line_search=False))
    records = [*MOVED, baseline_trial(3, 9.0)]

    assert policy.next_action(THREE[:1], [], Spent(5 * TOTAL)) == Start()
    assert policy.next_action(records, [], Spent(10 * TOTAL)) == Start()
    assert policy.next_action([], [], Spent(0)) == Start()


def test_an_interrupted_one_is_resumed() -> None:
    interrupted = replace(make_trial(3), recipe=BASELINE_RECIPE)

    assert own_policy().next_action([*THREE, interrupted], [], Spent(4 * TOTAL)) == Start()
    # for the last of the budget, too
    assert own_policy().next_action([*THREE, interrupted], [], Spent(7 * TOTAL)) == Start()


LONG = replace(INSPECTION, total_steps=2_000)
RACE = make_space("""
optimizer:
  sgd: {lr: {low: 1e-3, high: 1.0, log: true, prior: 0.1, source: test}}
  adamw: {lr: {low: 1e-5, high: 1e-1, log: true, prior: 1e-3, source: test}}
schedule: {constant: {}}
""")


def seen_early(number: int, optimizer: str, rate: float, *values: float) -> TrialRecord:
    steps = search_policy(LONG).rungs
    pauses = tuple(make_pause(value, rung, 2_000) for value, rung in zip(values, steps, strict=False))
    record = make_trial(number, None, state="waiting", pauses=pauses)
    return replace(record, recipe=Recipe(Part(optimizer, {"lr": rate}), Part("constant")))


def test_in_long_trainings_every_optimizer_is_looked_at_before_one_is_promoted() -> None:
    policy = search_policy(LONG, space=RACE)
    bracket = [seen_early(number, "sgd", rate, 1.0 + abs(number - 1)) for number, rate in enumerate((1.0, 0.1, 0.01))]
    other = [seen_early(number, "adamw", rate, 3.0 + number) for number, rate in enumerate((1e-3, 1e-2, 1e-4), start=3)]

    assert policy.next_action(bracket, [], Spent(300)) == Start()
    assert policy.next_action([*bracket, other[0]], [], Spent(400)) == Start()
    assert policy.next_action([*bracket, *other], [], Spent(600)) == Promote(1)


def test_a_budget_for_one_training_spends_half_of_the_rest_on_first_looks() -> None:
    trials = [seen_early(number, "sgd", rate, 1.0 + abs(number - 1)) for number, rate in enumerate((1.0, 0.1, 0.01))]
    trials += [seen_early(number, "adamw", rate, 3.0 + number) for number, rate in enumerate((1e-3, 1e-2, 1e-4), 3)]
    looked_steps = 6 * 120

    # looks of six trials cost 720 steps: more than 0.3 of a training, less than half of what 0.9 of one leaves
    for budget, first in ((1.5, Promote(1)), (1.9, Start()), (3.0, Promote(1))):
        policy = search_policy(LONG, space=RACE, budget=budget)
        assert policy.next_action(trials, [], Spent(looked_steps)) == first, budget


def test_a_rule_that_was_wrong_for_one_optimizer_was_wrong_for_the_others_too() -> None:
    policy = search_policy(LONG, space=RACE)

    def ended(number: int, optimizer: str, rate: float) -> TrialRecord:
        outcome = make_outcome(None, StopReason.BLOW_UP, steps=20, total_steps=2_000)
        recipe = Recipe(Part(optimizer, {"lr": rate}), Part("constant"))
        return make_trial(number, outcome, recipe=recipe)

    # a factor of ten between rates turns the rule off
    records = [ended(0, "sgd", 0.1), ended(1, "adamw", 1e-3), ended(2, "sgd", 0.01)]
    assert policy.next_action(records, [], Spent(60)) == Repeat(0)
    of_sgd = seen_early(3, "sgd", 0.1, 1.0)
    assert policy.next_action([*records, of_sgd], [], Spent(180)) == Repeat(1)
    of_adamw = seen_early(4, "adamw", 1e-3, 2.0)
    assert policy.next_action([*records, of_sgd, of_adamw], [], Spent(300)) == Start()
    # whatever trains beside it
    running = replace(of_sgd, number=4, state="running", recipe=Recipe(Part("sgd", {"lr": 0.3}), Part("constant")))
    assert policy.next_action([*records, of_sgd, running], [], Spent(180)) == Repeat(1)
    # a repeated one that gave nothing shows nothing
    assert policy.next_action([*records, replace(records[0], number=3)], [], Spent(80)) == Start()


def test_line_searches_end_for_now_once_the_first_looks_have_cost_half_of_a_training() -> None:
    # no line search has ended: the best rate of each optimizer is the highest tried
    sgd = [seen_early(number, "sgd", 10.0 ** (number - 9), 9.0 - number) for number in range(8)]
    adamw = seen_early(8, "adamw", 1e-3, 3.0)
    policy = search_policy(LONG, space=RACE)

    assert policy.next_action([*sgd[:7], adamw], [], Spent(960)) == Start()
    # every optimizer has its look
    assert policy.next_action([*sgd, sgd[0]], [], Spent(1_080)) == Start()
    # nine looks of 120 steps
    assert policy.next_action([*sgd, adamw], [], Spent(1_080)) == Promote(7)
    assert search_policy(LONG, space=RACE, budget=2.0).next_action([*sgd, adamw], [], Spent(1_080)) == Promote(7)
    # nothing else could use the rest
    assert search_policy(LONG, space=RACE, budget=1.9).next_action([*sgd, adamw], [], Spent(1_080)) == Start()


MOVES = [(number, Recipe(Part("own", {"lr_factor": factor}), Part("own"))) for number, factor in ((4, 10.0), (5, 0.1))]
LONG_OWN = replace(LONG, has_own_optimizer=True, replaced="SGD(lr=0.1)")
RACE_WITH_OWN = make_space("""
optimizer:
  sgd: {lr: {low: 1e-3, high: 1.0, log: true, prior: 0.1, source: test}}
  own: {lr_factor: {low: 0.1, high: 10, log: true, prior: 1.0, source: test}}
schedule: {constant: {}}
""")


def test_in_a_race_the_baseline_is_compared_at_a_rung_before_a_trial_passes_it() -> None:
    policy = search_policy(LONG_OWN, space=RACE_WITH_OWN, budget=8.0)
    bracket = [seen_early(number, "sgd", 10.0**-number, 1.0 + abs(number - 1)) for number in range(3)]
    ahead = seen_early(1, "sgd", 0.1, 1.0, 0.8)
    further = seen_early(1, "sgd", 0.1, 1.0, 0.8, 0.6)

    def next_with(one: TrialRecord, *own: float) -> Action | None:
        own_trials = [replace(seen_early(number, "sgd", 0.1, 2.0 + number), recipe=recipe) for number, recipe in MOVES]
        baseline = replace(seen_early(3, "sgd", 0.1, *own), recipe=BASELINE_RECIPE)
        return policy.next_action([bracket[0], one, bracket[2], baseline, *own_trials], [], Spent(1_500))

    assert next_with(bracket[1], 1.5) == Promote(1)
    assert next_with(ahead, 1.5) == Promote(3)
    assert next_with(ahead, 1.5, 1.2) == Promote(1)
    # the first result does not wait for the comparison at the last rung
    assert next_with(further, 1.5, 1.2) == Promote(1)
    assert next_with(further, 1.5, 1.2, 0.9) == Promote(1)
    assert next_with(further, 1.5, 1.2, 0.3) == Promote(3)


def test_the_looks_of_the_baseline_are_held_in_reserve_in_a_race() -> None:
    baseline = replace(seen_early(0, "sgd", 0.1, 1.0), recipe=BASELINE_RECIPE)
    looks, runners_up = (40 + 140), 2 * (200 + 40 - 100)
    new, rest_of_baseline, spent = 2_000 + 20 + looks, 1_900 + looks, 1_500
    needed = spent + rest_of_baseline + new + runners_up

    for steps, expected in ((needed, Start()), (needed - 1, Promote(0))):
        policy = search_policy(LONG_OWN, space=RACE_WITH_OWN, budget=(steps + 0.5) / 2_000)
        assert policy.next_action([baseline], [], Spent(spent)) == expected, steps


@pytest.mark.parametrize(
    ("total_steps", "least", "below"), [(2_000, 3.0, Start()), (999, 2.0, None)], ids=["a race", "a short training"]
)
def test_the_baseline_is_trained_from_the_budget_on_that_pays_for_the_looks_too(
    total_steps: int, least: float, below: Action | None
) -> None:
    finished = make_trial(0, make_outcome(0.5, steps=total_steps, total_steps=total_steps))

    def next_with(budget: float) -> Action | None:
        policy = search_policy(replace(LONG_OWN, total_steps=total_steps), space=RACE_WITH_OWN, budget=budget)
        return policy.next_action([finished], [], Spent(total_steps))

    assert next_with(least - 0.01) == below
    assert next_with(least) == StartBaseline()


def test_a_baseline_that_was_discarded_is_trained_anew_with_a_larger_budget() -> None:
    at_rung = seen_early(1, "sgd", 0.1, 1.0)
    discarded = make_outcome(1.0, StopReason.OUTRANKED, steps=100, total_steps=2_000)
    own = replace(at_rung, outcome=discarded, state="pruned", recipe=BASELINE_RECIPE)
    finished = make_trial(0, make_outcome(0.5, steps=2_000, total_steps=2_000))

    assert baseline_record([finished, own], []) is None
    policy = search_policy(LONG_OWN, space=RACE_WITH_OWN, budget=3.5)
    assert policy.next_action([finished, own], [], Spent(3_600)) == StartBaseline()


def test_a_stopped_look_is_repeated_whatever_is_left() -> None:
    stopped = make_pause(1.0, 100, 2_000, is_look_stopped=True)
    begun = make_trial(0, None, state="running", stopped_at=100, stopped_look=stopped)
    policy = search_policy(LONG, budget=1.5)
    assert policy.look_steps(begun, [begun], [], 2_990) == 20
    assert policy.look_steps(replace(begun, stopped_look=None), [begun], [], 2_990) == 0


def test_a_look_is_taken_as_long_as_the_training_can_still_be_ended() -> None:
    policy, begun = search_policy(LONG, budget=2.0), make_trial(0, None, state="running")

    assert policy.look_steps(begun, [begun], [], 0) == 20
    assert policy.look_steps(begun, [begun], [], 2_000 - 20) == 20
    assert policy.look_steps(begun, [begun], [], 2_000 - 19) == 0
    assert search_policy(budget=2.0).look_steps(begun, [begun], [], 0) == 0


def test_a_look_does_not_take_what_the_baseline_needs() -> None:
    with_baseline = replace(LONG, has_own_optimizer=True)
    policy, begun = search_policy(with_baseline, budget=3.0), make_trial(0, None, state="running")

    assert policy.look_steps(begun, [begun], [], 2_000 - 20) == 20
    assert policy.look_steps(begun, [begun], [], 2_000 - 19) == 0
    assert policy.look_steps(begun, [begun], [make_run(BASELINE, DONE)], 2 * 2_000 - 20) == 20


def test_a_training_of_several_processes_is_not_looked_at() -> None:
    policy = search_policy(LONG, trainer={"devices": 2, "accelerator": "cpu"})

    assert policy.look_steps(make_trial(0, None, state="running"), [], [], 0) == 0


def test_a_replicate_and_the_last_rung_are_not_looked_at() -> None:
    policy = search_policy(LONG)

    assert policy.look_steps(make_run(replicate(0).job, None), [], [], 0) == 0
    assert policy.look_steps(seen_early(0, "sgd", 0.1, 3.0, 2.0, 1.0), [], [], 0) == 0
