import math
import random

import pytest
import torch

from opttune import Guard
from opttune.guard.history import Alarms, RunHistory
from opttune.guard.steps import StepRecord
from opttune.outcome import StopReason


def run(history, losses, lrs=None, start=1, validate_at=()):
    """Feed a curve until a decision; return it."""
    for step, loss in enumerate(losses, start):
        lr = 0.1 if lrs is None else lrs[step - 1]
        decision = history.add(StepRecord(step, loss, lr, None))
        if decision is not None:
            return decision
        if step in dict(validate_at):
            history.add_validation(dict(validate_at)[step])
    return None


def falling(total):
    noise = random.Random(0)
    return [2.0 * 0.1 ** (i / total) * noise.uniform(0.9, 1.1) for i in range(total)]


def test_a_catapult_with_a_warmup_is_not_stopped():
    # the loss rises threefold while the rate does, and comes down
    losses = [2.0, 2.1, 2.6, 3.4, 5.0, 6.2, 6.0, 4.4, 3.0, 2.2, *falling(190)]
    lrs = [min(1.0, step / 20) for step in range(1, 201)]
    validations = [(20, 2.0), (40, 1.5)]
    assert run(RunHistory(Guard(), 200), losses, lrs, validate_at=validations) is None


def test_the_decision_holds_the_rate_of_its_step():
    lrs = [0.01 * step for step in range(1, 401)]
    decision = run(RunHistory(Guard(), 400), [2.0, *[4.0] * 399], lrs)
    assert (decision.reason, decision.step, decision.lr) == (StopReason.BLOW_UP, 18, pytest.approx(0.18))


def test_a_run_that_is_not_seen_from_its_first_step_is_judged_for_what_is_not_finite_only():
    history = RunHistory(Guard(), 400, is_whole=False)
    assert run(history, [2.0, *[400.0] * 100], start=101) is None
    assert not history.wants_validations
    assert run(history, [math.nan], start=202).reason is StopReason.NON_FINITE


@pytest.mark.parametrize("pause", [3, 12, 30, 38, 45])
def test_a_paused_history_resumes_as_if_it_had_not_been_paused(pause, tmp_path):
    losses = [2.0, 5.0, *[2.0] * 300]
    validations = [(10, 2.0), (35, 2.0)]
    whole = run(RunHistory(Guard(), 400), losses, validate_at=validations)
    first = RunHistory(Guard(), 400)
    decision = run(first, losses[:pause], validate_at=validations)
    if decision is None:
        # as in a checkpoint: plain values alone
        torch.save(first.progress(), tmp_path / "progress")
        second = RunHistory(Guard(), 400, is_whole=False)
        second.resume_from(torch.load(tmp_path / "progress", weights_only=True))
        decision = run(second, losses[pause:], start=pause + 1, validate_at=validations)
        assert second.alarms == ("the loss jumped to 5 at step 2, above 2 x the first, 2",)
    assert decision == whole
    assert (decision.reason, decision.step) == (StopReason.STALL, 40)


def test_news_are_the_sentences_that_were_not_told_yet():
    history = RunHistory(Guard(), 400)
    run(history, [2.0, 5.0, 5.0, *falling(50)])
    assert history.news == ["the loss jumped to 5 at step 2, above 2 x the first, 2"]
    assert history.alarms == ("the loss jumped to 5 at step 2, above 2 x the first, 2 (2 times)",)


def test_a_rule_that_has_spoken_can_be_silenced():
    history = RunHistory(Guard(), 400)
    assert run(history, [2.0, *[4.0] * 17]).reason is StopReason.BLOW_UP
    history.retire_rule(StopReason.BLOW_UP)
    assert run(history, [4.0] * 50, start=19) is None
    assert run(history, [math.nan], start=69).reason is StopReason.NON_FINITE
    history.retire_rule(StopReason.NON_FINITE)
    assert run(history, [math.nan] * 5, start=70) is None


def test_of_a_long_run_only_what_a_rule_asks_for_is_kept():
    history = RunHistory(Guard(), 400)
    run(history, falling(400))
    assert len(history.progress()["losses"]) == 6


def said(losses, norms=None, guard=None):
    alarms = Alarms(guard or Guard())
    norms = norms or [None] * len(losses)
    sentences = [
        alarms.add(StepRecord(step, loss, 0.1, norm))
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), 1)
    ]
    return [sentence for sentence in sentences if sentence], alarms


def test_a_loss_above_twice_the_first_is_said_once_and_counted():
    told, alarms = said([2.0, 1.0, 4.1, 1.0, 5.0])
    assert told == ["the loss jumped to 4.1 at step 3, above 2 x the first, 2"]
    assert alarms.sentences == ("the loss jumped to 4.1 at step 3, above 2 x the first, 2 (2 times)",)


def test_near_or_below_zero_a_ratio_says_nothing():
    assert said([0.001, 5.0])[0] == []
    assert said([-1.0, 5.0])[0] == []


def test_steps_without_a_loss_are_passed_over():
    assert said([None, float("nan"), 2.0, 9.0])[0] == ["the loss jumped to 9 at step 4, above 2 x the first, 2"]


def test_a_norm_above_ten_times_the_usual_is_said():
    norms = [1.0] * 30 + [9.0] + [11.0] * 2
    told, alarms = said([1.0] * 33, norms)
    assert told == ["the gradient norm jumped to 11 at step 32, above 10 x the usual 1"]
    assert alarms.sentences[0].endswith("(2 times)")


def test_the_first_norms_say_nothing_of_what_is_usual():
    assert said([1.0] * 10, [1.0] * 9 + [1e6])[0] == []


def test_where_alarms_are_off_nothing_is_said():
    assert said([2.0, 9.0], guard=Guard(alarms=False))[0] == []


def test_its_state_is_restored_in_another():
    _, alarms = said([2.0, 9.0, *[1.0] * 28], [1.0] * 30)
    other = Alarms(Guard())
    other.resume_from(alarms.progress())
    assert other.progress() == alarms.progress()
    assert other.add(StepRecord(31, 9.0, 0.1, 1.0)) == ""
    assert other.sentences == ("the loss jumped to 9 at step 2, above 2 x the first, 2 (2 times)",)


def test_a_loss_that_need_not_fall_is_no_blow_up_before_it_has():
    # of two networks against each other: from 2 up to where it stays
    rising = [2.0 + min(4.0, 0.1 * step) for step in range(100)]
    assert run(RunHistory(Guard(stall=False), 400), rising).reason is StopReason.BLOW_UP
    assert run(RunHistory(Guard(stall=False), 400, falls_first=True), rising) is None


def test_a_loss_that_fell_and_rises_again_is_a_blow_up_under_manual_optimization_too():
    losses = [2.0 - 0.05 * step for step in range(15)] + [4.0] * 60
    decision = run(RunHistory(Guard(stall=False), 400, falls_first=True), losses)
    assert decision.reason is StopReason.BLOW_UP


@pytest.mark.parametrize("pause", [3, 8, 12, 16, 20, 30])
def test_a_paused_history_still_knows_whether_the_loss_has_fallen(pause):
    losses = [2.0 - 0.05 * step for step in range(15)] + [4.0] * 60
    whole = run(RunHistory(Guard(stall=False), 400, falls_first=True), losses)
    first = RunHistory(Guard(stall=False), 400, falls_first=True)
    decision = run(first, losses[:pause])
    if decision is None:
        then = RunHistory(Guard(stall=False), 400, is_whole=False, falls_first=True)
        then.resume_from(first.progress())
        decision = run(then, losses[pause:], start=pause + 1)
    assert decision == whole
