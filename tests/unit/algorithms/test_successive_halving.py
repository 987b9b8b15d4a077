"""Successive halving, on searches that train nothing: a curve gives the value of each trial at each step."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opttune.algorithms.rung_peers import RungPeers, gets_worse, ranks_disagree
from opttune.algorithms.rungs import FOR_LONG_TRAININGS, SuccessiveHalving, TrialProgress
from opttune.algorithms.successive_halving import Promote, Start, next_action, to_discard
from opttune.errors import InputError

HALVING = SuccessiveHalving()
RUNGS = (10, 35, 100)


def is_promotable(
    halving: SuccessiveHalving, rungs: tuple[int, ...], progress: list[TrialProgress], one: TrialProgress
) -> bool:
    return RungPeers(halving, rungs, progress, one.steps, at_once=1).is_promotable(one)


Curve = Callable[[int, int], float]


@dataclass
class Run:
    """A search that trains nothing; it checks what must hold at every action."""

    curve: Curve
    budget: int
    rungs: tuple[int, ...] = RUNGS
    most: int | None = None
    uses_up: bool = True
    deadly: frozenset[int] = frozenset()
    """Trials that die half-way to the full length."""
    halving: SuccessiveHalving = HALVING
    progress: list[TrialProgress] = field(default_factory=list)
    actions: list[Promote | Start] = field(default_factory=list)
    spent: int = 0

    def finished(self) -> list[TrialProgress]:
        return [one for one in self.progress if one.steps == self.rungs[-1]]

    def starts(self) -> int:
        return self.actions.count(Start())

    def run(self) -> "Run":
        while (action := self._next()) is not None:
            self.actions.append(action)
            left = self.budget - self.spent
            if isinstance(action, Promote):
                one = self.progress[action.number]
                assert one.is_paused
                assert left >= self.rungs[-1] - one.steps
            else:
                assert left >= self.rungs[-1]
                assert self.most is None or len(self.progress) < self.most
                one = TrialProgress(len(self.progress), (), 0)
                self.progress.append(one)
            self._train(one)
            assert self.spent <= self.budget
        return self

    def _next(self) -> Promote | Start | None:
        may_start = self.most is None or len(self.progress) < self.most
        left = self.budget - self.spent
        return next_action(self.halving, self.rungs, self.progress, left, may_start=may_start, uses_up=self.uses_up)

    def _train(self, one: TrialProgress) -> None:
        end = self.rungs[-1]
        until = next(rung for rung in self.rungs if rung > one.steps)
        if one.number in self.deadly and until > end // 2:
            trained = replace(one, steps=end // 2, is_paused=False)
        else:
            values = (*one.values, self.curve(one.number, until))
            trained = TrialProgress(one.number, values, until, is_paused=until < end)
        self.spent += trained.steps - one.steps
        self.progress[one.number] = trained


def falling(seed: int = 0, noise: float = 0.0) -> Curve:
    """Each trial falls to a level of its own; what the early steps show is right but for noise."""
    levels = np.random.default_rng(seed).random(1000)

    def curve(number: int, step: int) -> float:
        wobble = np.random.default_rng((seed, number, step)).normal(0, noise) if noise else 0.0
        return float(levels[number] + 1 / step + wobble)

    return curve


def overfitting(number: int, step: int) -> float:
    """What is best early is worst at the end."""
    return number / 100 + step / 100


def paused(number: int, *values: float) -> TrialProgress:
    return TrialProgress(number, values, RUNGS[len(values) - 1], is_paused=True)


def finished(number: int, *values: float) -> TrialProgress:
    return TrialProgress(number, values, RUNGS[-1])


def test_the_rungs_are_shares_of_the_length() -> None:
    assert SuccessiveHalving((0.1, 0.5)).steps(1000) == (100, 500, 1000)


def test_a_rung_that_is_too_short_to_tell_anything_is_left_out() -> None:
    halving = SuccessiveHalving((0.1, 0.5))

    assert halving.steps(40) == (20, 40)
    assert halving.steps(10) == (10,)
    assert halving.steps(1) == (1,)


def test_rungs_within_the_warmup_move_to_its_end() -> None:
    halving = SuccessiveHalving((0.1, 0.5))

    assert halving.steps(1000, warmup_share=0.2) == (200, 500, 1000)
    assert halving.steps(1000, warmup_share=0.6) == (600, 1000)


def test_no_shares_are_no_rungs() -> None:
    assert SuccessiveHalving((), (), ()).steps(1000) == (1000,)


@pytest.mark.parametrize(
    "settings",
    [
        {"shares": (0.5, 0.1)},
        {"shares": (0.1, 0.1)},
        {"shares": (0.0, 0.5)},
        {"shares": (0.1, 1.0)},
        {"kept": (0.5,)},
        {"kept": (0.5, 0.0)},
        {"kept": (1.5, 0.5)},
        {"kept_of_all": (1.0,)},
        {"most_paused": 0},
    ],
    ids=str,
)
def test_settings_out_of_their_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"SuccessiveHalving: {next(iter(settings))} must"):
        SuccessiveHalving(**settings)


@settings(max_examples=60, deadline=None)
@given(
    budget=st.integers(0, 1500),
    seed=st.integers(0, 50),
    noise=st.sampled_from([0.0, 0.3]),
    most=st.none() | st.integers(0, 12),
    uses_up=st.booleans(),
    rungs=st.sampled_from([RUNGS, (35, 100), (10, 100), (100,)]),
)
def test_a_search_keeps_to_its_budget_and_finishes_what_it_can(
    budget: int, seed: int, noise: float, most: int | None, uses_up: bool, rungs: tuple[int, ...]
) -> None:
    # the checks at every action are in Run
    done = Run(falling(seed, noise), budget, rungs, most, uses_up).run()

    assert bool(done.finished()) is (budget >= rungs[-1] and most != 0)


@settings(max_examples=40, deadline=None)
@given(budget=st.integers(100, 1500), seed=st.integers(0, 50), deadly=st.frozensets(st.integers(0, 15)))
def test_a_search_whose_trials_die_keeps_to_its_budget_too(budget: int, seed: int, deadly: frozenset[int]) -> None:
    done = Run(falling(seed), budget, deadly=deadly).run()

    for one in done.finished():
        assert one.number not in deadly
    # at the end nothing that waits could still be paid
    assert all(budget - done.spent < RUNGS[-1] - one.steps for one in done.progress if one.is_paused)


def test_a_search_spends_what_it_has() -> None:
    for budget in (500, 1000, 2000):
        assert Run(falling(), budget).run().spent > budget - RUNGS[-1]


def test_more_are_tried_than_full_trainings_pay_for() -> None:
    done = Run(falling(), 2000).run()

    assert done.starts() > 22
    assert len(done.finished()) < 20


def test_where_early_values_tell_the_end_one_of_the_best_is_finished() -> None:
    for seed in range(10):
        done = Run(falling(seed), 2000).run()
        ranked = sorted(done.progress, key=lambda one: one.values[0])

        # what is found when the budget is all but spent comes too late
        assert any(one in done.finished() for one in ranked[:3])


def test_a_length_without_rungs_trains_each_trial_to_the_end() -> None:
    done = Run(falling(), 1050, rungs=(100,)).run()

    assert done.actions == [Start()] * 10
    assert len(done.finished()) == 10


THREE = [finished(number, 2.0 + number, 1.5 + number, 1.0 + number) for number in range(3)]
"""Three that have finished: 2, 3, 4 at the first rung, and 1.5, 2.5, 3.5 at the second."""


def test_the_first_is_trained_to_the_end_and_the_next_only_where_it_is_better() -> None:
    assert next_action(HALVING, RUNGS, [paused(0, 9.0)], 1000) == Promote(0)
    assert next_action(HALVING, RUNGS, [*THREE[:1], paused(1, 1.0)], 1000) == Promote(1)
    assert next_action(HALVING, RUNGS, [*THREE[:1], paused(1, 9.0)], 1000) == Start()


@pytest.mark.parametrize(("values", "goes"), [((1.0,), True), ((2.5,), True), ((3.5,), False)])
def test_at_the_first_rung_the_better_half_continues(values: tuple[float, ...], goes: bool) -> None:
    assert is_promotable(HALVING, RUNGS, [*THREE, paused(3, *values)], paused(3, *values)) is goes


@pytest.mark.parametrize(("second", "goes"), [(1.0, True), (2.0, True), (3.0, False)])
def test_at_the_second_rung_the_better_third_continues(second: float, goes: bool) -> None:
    assert is_promotable(HALVING, RUNGS, [*THREE, paused(3, 1.0, second)], paused(3, 1.0, second)) is goes


def test_a_trial_that_is_not_promoted_makes_room_for_a_new_one() -> None:
    assert next_action(HALVING, RUNGS, [*THREE, paused(3, 9.0)], 1000) == Start()


def test_a_paused_trial_continues_once_worse_ones_show_that_it_was_among_the_better() -> None:
    waiting = [*THREE, paused(3, 3.5)]

    assert next_action(HALVING, RUNGS, waiting, 1000) == Start()
    assert next_action(HALVING, RUNGS, [*waiting, paused(4, 9.0)], 1000) == Promote(3)


def test_the_highest_rung_is_promoted_first_and_of_equals_the_earliest() -> None:
    assert next_action(HALVING, RUNGS, [paused(0, 1.0), paused(1, 2.0, 1.0)], 1000) == Promote(1)
    assert next_action(HALVING, RUNGS, [paused(0, 1.0), paused(1, 1.0)], 1000) == Promote(0)


def test_nothing_is_started_or_promoted_that_cannot_be_paid_to_the_end() -> None:
    assert next_action(HALVING, RUNGS, [], 99) is None
    assert next_action(HALVING, RUNGS, [paused(0, 1.0)], 89) is None
    assert next_action(HALVING, RUNGS, [paused(0, 1.0)], 90) == Promote(0)
    assert next_action(HALVING, RUNGS, [paused(0, 1.0, 0.9), paused(1, 0.5)], 65) == Promote(0)


def test_what_a_stopped_trial_has_done_need_not_be_paid_again() -> None:
    left = RUNGS[-1] - RUNGS[0] - 5
    stopped = replace(paused(0, 1.0), stopped_at=RUNGS[0] + 5)

    assert next_action(HALVING, RUNGS, [stopped], left) == Promote(0)
    assert next_action(HALVING, RUNGS, [stopped], left - 1) is None
    assert next_action(HALVING, RUNGS, [], RUNGS[-1] - 5, begun_steps=5) == Start()
    assert next_action(HALVING, RUNGS, [], RUNGS[-1] - 6, begun_steps=5) is None


def test_when_nothing_new_can_begin_the_best_that_waits_uses_the_budget_up() -> None:
    waiting = [*THREE, paused(3, 9.0)]

    assert next_action(HALVING, RUNGS, waiting, 99) == Promote(3)
    assert next_action(HALVING, RUNGS, waiting, 1000, may_start=False) == Promote(3)
    assert next_action(HALVING, RUNGS, waiting, 1000, may_start=False, uses_up=False) is None


def test_a_trial_that_runs_or_died_holds_nothing_up() -> None:
    runs, died = TrialProgress(3, (), 0), TrialProgress(4, (1.0,), 20)

    assert next_action(HALVING, RUNGS, [*THREE, runs, died], 1000) == Start()
    assert next_action(HALVING, RUNGS, [*THREE, runs, died, paused(5, 1.0)], 1000) == Promote(5)


def test_values_get_worse_where_most_finished_trials_end_above_what_they_showed() -> None:
    assert gets_worse([(0.5, 0.9), (0.5, 0.6), (0.5, 0.4)])
    assert not gets_worse([(0.5, 0.9), (0.5, 0.4)])
    assert not gets_worse([(0.5, 0.9)])


def test_ranks_disagree_where_six_say_so() -> None:
    turned = [(9.0 - number, number / 10) for number in range(6)]

    assert ranks_disagree(turned)
    assert not ranks_disagree(turned[:5])
    assert not ranks_disagree([(number, number / 10) for number in range(6)])
    # ranks of equals say nothing
    assert not ranks_disagree([(1.0, number / 10) for number in range(6)])


def test_where_values_get_worse_the_latest_continues_and_those_that_wait_do_not() -> None:
    worse = [finished(number, 0.1, 0.2, 0.9 + number) for number in range(4)]

    assert next_action(HALVING, RUNGS, [*worse, paused(4, 5.0), paused(5, 6.0)], 1000) == Promote(5)
    assert next_action(HALVING, RUNGS, [*worse, paused(4, 5.0), finished(5, 6.0, 7.0, 8.0)], 1000) == Start()


def test_a_trial_is_compared_with_others_of_the_same_optimizer() -> None:
    quick = [replace(finished(number, 0.1 + number, 0.1 + number, 0.1), optimizer="adamw") for number in range(4)]
    slow = [replace(paused(4, 9.0), optimizer="muon"), replace(paused(5, 9.5), optimizer="muon")]

    assert next_action(HALVING, RUNGS, [*quick, slow[0]], 1000) == Promote(4)
    assert next_action(HALVING, RUNGS, [*quick, *slow], 1000) == Promote(4)
    assert next_action(HALVING, RUNGS, [*quick, replace(slow[0], is_paused=False), slow[1]], 1000) == Start()


def test_at_the_second_rung_it_is_compared_with_those_of_all_optimizers_too() -> None:
    quick = [replace(finished(number, 3.0, 1.0 + number, 0.1), optimizer="adamw") for number in range(4)]

    for value, goes in ((1.5, True), (2.5, False), (9.0, False)):
        first = replace(paused(4, 9.0, value), optimizer="muon")
        assert is_promotable(HALVING, RUNGS, [*quick, first], first) is goes


@pytest.mark.parametrize(("steps", "goes"), [(2_000, True), (1_000, False)])
def test_the_best_of_each_optimizer_passes_the_first_rung_of_a_race_but_not_where_it_is_the_second_too(
    steps: int, goes: bool
) -> None:
    # at 1,000 steps the rungs at 2% and 10% are one, and the next one costs a third of a training
    rungs = FOR_LONG_TRAININGS.steps(steps)
    quick = [TrialProgress(number, (float(number),), rungs[0], optimizer="adamw") for number in range(9)]
    slow = TrialProgress(9, (8.5,), rungs[0], is_paused=True, optimizer="sgd")
    assert is_promotable(FOR_LONG_TRAININGS, rungs, [*quick, slow], slow) is goes


def test_where_several_train_each_of_them_may_be_the_latest() -> None:
    worse = [finished(number, 0.1, 0.2, 0.9 + number) for number in range(4)]
    others = [paused(4, 5.0), finished(5, 6.0, 7.0, 8.0), finished(6, 6.0, 7.0, 8.0)]

    assert next_action(HALVING, RUNGS, [*worse, *others], 1000, at_once=3) == Promote(4)
    assert next_action(HALVING, RUNGS, [*worse, *others], 1000, at_once=2) == Start()


def test_where_ranks_disagree_the_latest_continues_unless_it_is_worse_than_all_that_finished() -> None:
    turned = [finished(number, 9.0 - number, 9.0 - number, number / 10) for number in range(6)]

    assert next_action(HALVING, RUNGS, [*turned, paused(6, 8.9)], 1000) == Promote(6)
    assert next_action(HALVING, RUNGS, [*turned, paused(6, 9.1)], 1000) == Start()


def test_where_models_overfit_trials_are_trained_to_the_end() -> None:
    done = Run(overfitting, 2000).run()

    assert len(done.finished()) >= 18


def test_a_few_stay_paused_at_each_rung() -> None:
    crowd = [*THREE, *(paused(3 + number, 10.0 + number) for number in range(8))]

    assert to_discard(HALVING, RUNGS, crowd[:8]) == []
    assert set(to_discard(HALVING, RUNGS, crowd)) < {one.number for one in crowd[3:]}
    assert len([one for one in crowd if one.is_paused]) - len(to_discard(HALVING, RUNGS, crowd)) >= HALVING.most_paused


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_a_promotable_trial_is_never_discarded(seed: int) -> None:
    values = np.random.default_rng(seed).random(20)
    crowd = [*THREE, *(paused(3 + number, 1.0 + 5 * value) for number, value in enumerate(values))]
    discarded = to_discard(HALVING, RUNGS, crowd)

    assert not any(is_promotable(HALVING, RUNGS, crowd, one) for one in crowd if one.number in discarded)
    waits = [one for one in crowd if one.is_paused and not is_promotable(HALVING, RUNGS, crowd, one)]
    assert len(waits) - len(discarded) <= HALVING.most_paused


def is_sgd(one: TrialProgress) -> bool:
    return one.optimizer == "sgd"


def test_trials_that_are_held_wait_at_the_first_rung_alone() -> None:
    first = TrialProgress(0, (0.5, 0.4, 0.3), 100, optimizer="sgd")
    better = TrialProgress(1, (0.4,), 10, is_paused=True, optimizer="sgd")
    further = TrialProgress(2, (0.45, 0.35), 35, is_paused=True, optimizer="sgd")
    other = TrialProgress(3, (0.4,), 10, is_paused=True, optimizer="adamw")

    def action(*progress: TrialProgress, **settings: Any) -> Promote | Start | None:
        return next_action(HALVING, RUNGS, progress, 1000, **settings)

    assert action(first, better) == Promote(1)
    assert action(first, better, is_held=is_sgd) == Start()
    assert action(first, better, other, is_held=is_sgd) == Promote(3)
    assert action(first, further, is_held=is_sgd) == Promote(2)
    # when no new trial can start, no trial is held
    assert action(first, better, is_held=is_sgd, may_start=False) == Promote(1)


def test_no_trial_is_held_at_a_rung_that_is_not_informative() -> None:
    worse = [TrialProgress(number, (0.1, 0.2, 0.3), 100, optimizer="sgd") for number in range(2)]
    latest = TrialProgress(2, (0.4,), 10, is_paused=True, optimizer="sgd")

    assert next_action(HALVING, RUNGS, [*worse, latest], 1000, is_held=is_sgd) == Promote(2)


def test_a_rung_where_all_are_equal_or_undefined_is_passed_over() -> None:
    halving = SuccessiveHalving()
    for values in ([0.7, 0.7, 0.7], [None, None, None]):
        paused = [TrialProgress(number, (value,), 10, is_paused=True) for number, value in enumerate(values)]
        for trial in paused:
            assert RungPeers(halving, (10, 35, 100), paused, 10, 1).is_promotable(trial)


def test_a_trial_without_a_value_where_others_have_one_waits_until_the_end() -> None:
    undefined = TrialProgress(0, (None,), 10, is_paused=True)
    finished = TrialProgress(1, (0.7, 0.5, 0.3), 100)
    rungs = (10, 35, 100)
    assert next_action(SuccessiveHalving(), rungs, [undefined, finished], 300) == Start()
    assert next_action(SuccessiveHalving(), rungs, [undefined, finished], 95) == Promote(0)


LONG_RUNGS = (5, 10, 35, 100)


def looked(number: int, *values: float, optimizer: str = "") -> TrialProgress:
    return TrialProgress(number, values, LONG_RUNGS[len(values) - 1], is_paused=len(values) < 4, optimizer=optimizer)


def next_in_race(progress: list[TrialProgress], left: int = 1000, **more: Any) -> Promote | Start | None:
    return next_action(FOR_LONG_TRAININGS, LONG_RUNGS, progress, left, **more)


def test_the_rungs_of_long_trainings_begin_at_a_hundred_steps_or_where_a_look_can_tell() -> None:
    assert FOR_LONG_TRAININGS.steps(1_000) == (100, 350, 1_000)
    assert FOR_LONG_TRAININGS.steps(2_000) == (100, 200, 700, 2_000)
    assert FOR_LONG_TRAININGS.steps(10_000) == (200, 1_000, 3_500, 10_000)
    assert FOR_LONG_TRAININGS.steps(10_000, warmup_share=0.03)[0] == 300
    assert FOR_LONG_TRAININGS.steps(10_000, warmup_share=0.1)[0] == 500


def test_in_a_race_all_that_deserve_it_are_looked_at_on_the_second_rung_first() -> None:
    first = [looked(number, value) for number, value in enumerate((0.5, 0.4, 0.6, 0.7))]

    assert next_in_race([*first, looked(4, 0.45, 0.2)]) == Promote(1)
    assert next_in_race([first[0], looked(1, 0.4, 0.3), *first[2:], looked(4, 0.45, 0.2)]) == Promote(4)


def test_in_a_race_one_that_has_become_worse_is_worth_its_later_value() -> None:
    further, early = looked(0, 0.4, 0.2, 0.5), looked(1, 0.5, 0.3)

    assert next_in_race([further, early], may_start=False) == Promote(1)


def test_a_race_keeps_what_the_runners_up_cost_on_the_second_rung() -> None:
    reserve, looks = 2 * (10 + 2 - 5), 1 + 2 + 7
    first = [looked(0, 0.4)]

    assert next_in_race(first, 100 + looks + reserve, is_held=lambda trial: True) == Start()
    assert next_in_race(first, 100 + looks + reserve - 1, is_held=lambda trial: True) == Promote(0)
    done = looked(1, 0.5, 0.4, 0.3, 0.2)
    assert next_in_race([looked(0, 0.9), done], 100 + looks) == Start()


def test_where_the_first_two_rungs_are_one_nothing_is_kept_for_the_second() -> None:
    rungs = FOR_LONG_TRAININGS.steps(1_000)
    one = TrialProgress(0, (0.4,), 100, is_paused=True)
    needed = 1_000 + 20 + 70

    for left, expected in ((needed, Start()), (needed - 1, Promote(0))):
        assert next_action(FOR_LONG_TRAININGS, rungs, [one], left, is_held=lambda trial: True) == expected


def test_a_budget_of_one_training_trains_one_without_a_look() -> None:
    assert next_in_race([], 100) == Start()
    assert next_in_race([], 99) is None
    assert next_in_race([looked(0, 0.4)], 95) == Promote(0)


def test_a_race_whose_looks_have_all_failed_trains_another_one_from_what_the_budget_has_left() -> None:
    failed = [TrialProgress(number, (), 5) for number in range(6)]

    assert next_in_race(failed, 100) == Start()
    assert next_in_race(failed, 99) is None
    assert next_in_race([*failed, looked(6, 0.4)], 100, is_held=lambda trial: True) == Promote(6)


@given(seed=st.integers(0, 50), budget=st.integers(100, 900))
def test_a_race_never_spends_more_than_its_budget_and_trains_one_to_the_end(seed: int, budget: int) -> None:
    run = Run(falling(seed), budget, LONG_RUNGS, most=30, halving=FOR_LONG_TRAININGS).run()

    assert run.spent <= budget
    assert run.finished()
