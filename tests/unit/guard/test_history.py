import math
import random

import pytest
import torch

from opttune import Guard
from opttune.guard.history import RunHistory
from opttune.guard.steps import StepRecord
from opttune.outcome import StopReason


def run(history, losses, lrs=None, start=1, validate_at=()):
    """Feed a curve until a verdict; return it."""
    for step, loss in enumerate(losses, start):
        lr = 0.1 if lrs is None else lrs[step - 1]
        verdict = history.add(StepRecord(step, loss, lr, None))
        if verdict is not None:
            return verdict
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


def test_the_verdict_holds_the_rate_of_its_step():
    lrs = [0.01 * step for step in range(1, 401)]
    verdict = run(RunHistory(Guard(), 400), [2.0, *[4.0] * 399], lrs)
    assert (verdict.reason, verdict.step, verdict.lr) == (StopReason.BLOW_UP, 18, pytest.approx(0.18))


def test_a_run_that_is_not_seen_from_its_first_step_is_judged_for_what_is_not_finite_only():
    history = RunHistory(Guard(), 400, is_whole=False)
    assert run(history, [2.0, *[400.0] * 100], start=101) is None
    assert not history.wants_validations
    assert run(history, [math.nan], start=202).reason is StopReason.NON_FINITE


@pytest.mark.parametrize("pause", [3, 12, 30, 38, 45])
def test_a_paused_history_goes_on_as_if_it_had_not_been_paused(pause, tmp_path):
    losses = [2.0, 5.0, *[2.0] * 300]
    validations = [(10, 2.0), (35, 2.0)]
    whole = run(RunHistory(Guard(), 400), losses, validate_at=validations)
    first = RunHistory(Guard(), 400)
    verdict = run(first, losses[:pause], validate_at=validations)
    if verdict is None:
        # as in a checkpoint: plain values alone
        torch.save(first.progress(), tmp_path / "progress")
        second = RunHistory(Guard(), 400, is_whole=False)
        second.go_on_from(torch.load(tmp_path / "progress", weights_only=True))
        verdict = run(second, losses[pause:], start=pause + 1, validate_at=validations)
        assert second.alarms == ("the loss jumped to 5 at step 2, above 2 x the first, 2",)
    assert verdict == whole
    assert (verdict.reason, verdict.step) == (StopReason.STALL, 40)


def test_what_was_flagged_goes_on_with_a_paused_run():
    history = RunHistory(Guard(only_notes=True), 400)
    assert run(history, [2.0, *[4.0] * 99]) is None
    assert history.flagged.step == 18
    other = RunHistory(Guard(), 400, is_whole=False)
    other.go_on_from(history.progress())
    assert other.flagged == history.flagged
    # what it was let go on with is no more held against it
    assert run(other, [4.0] * 300, start=101) is None


def test_news_are_the_sentences_that_were_not_told_yet():
    history = RunHistory(Guard(), 400)
    run(history, [2.0, 5.0, 5.0, *falling(50)])
    assert history.news == ["the loss jumped to 5 at step 2, above 2 x the first, 2"]
    assert history.alarms == ("the loss jumped to 5 at step 2, above 2 x the first, 2 (2 times)",)


def test_a_rule_that_has_spoken_can_be_silenced():
    history = RunHistory(Guard(), 400)
    assert run(history, [2.0, *[4.0] * 17]).reason is StopReason.BLOW_UP
    history.say_no_more_of(StopReason.BLOW_UP)
    assert run(history, [4.0] * 50, start=19) is None
    assert run(history, [math.nan], start=69).reason is StopReason.NON_FINITE
    history.say_no_more_of(StopReason.NON_FINITE)
    assert run(history, [math.nan] * 5, start=70) is None


def test_of_a_long_run_only_what_a_rule_asks_for_is_kept():
    history = RunHistory(Guard(), 400)
    run(history, falling(400))
    assert len(history.progress()["losses"]) == 6
