import math

import pytest

from opttune import Guard
from opttune.guard.stall import Timing, has_improved, has_stalled, judge_stall, stall_timing
from opttune.outcome import StopReason

GUARD = Guard()


@pytest.mark.parametrize(
    ("step", "risen_until", "timing"),
    [
        (99, 1, Timing.EARLY),
        (100, 1, Timing.DUE),
        (100, 60, Timing.EARLY),
        (110, 60, Timing.DUE),
        (300, 300, Timing.EARLY),
        (500, 1, Timing.DUE),
        (501, 1, Timing.LATE),
    ],
)
def test_it_is_looked_for_from_a_tenth_of_the_length_and_after_the_warmup(step, risen_until, timing):
    assert stall_timing(step, 1000, risen_until, GUARD) is timing


def test_of_a_training_of_unknown_length_it_is_not_looked_for():
    assert stall_timing(100, 0, 1, GUARD) is Timing.LATE
    assert stall_timing(100, 1000, 1, Guard.finite_only()) is Timing.LATE


@pytest.mark.parametrize(
    ("losses", "stalled"),
    [
        ([2.0] * 50, True),
        ([2.0, *[1.995] * 49], True),
        ([2.0, *[1.98] * 49], False),
        ([2.0, *[2.9] * 49], True),
        # blow-up's to judge
        ([2.0, *[3.1] * 49], False),
        ([-1.0, *[-1.004] * 49], True),
        ([-1.0, *[-1.2] * 49], False),
        ([0.0, *[-0.1] * 49], False),
        ([0.0, *[0.0] * 49], False),
        ([0.1, *[0.1] * 49], True),
        ([math.nan, 2.0, *[1.0] * 48], False),
        ([math.nan], False),
    ],
)
def test_a_loss_has_stalled_that_has_not_fallen_by_half_a_percent(losses, stalled):
    assert has_stalled(losses, GUARD) is stalled


@pytest.mark.parametrize(
    ("values", "mode", "improved"),
    [
        ([2.0, 1.97], "min", False),
        ([2.0, 1.95], "min", True),
        ([2.0, 1.9, 5.0], "min", True),
        ([2.0, 3.0], "min", False),
        ([0.10, 0.11], "max", True),
        ([0.10, 0.1001], "max", False),
        ([-5.0, -5.2], "min", True),
        ([0.0, 0.01], "max", True),
        ([0.0, 0.0], "max", False),
        ([2.0, math.nan], "min", False),
        ([math.nan, 2.0], "min", False),
    ],
)
def test_a_validation_has_improved_by_two_percent_of_the_first(values, mode, improved):
    assert has_improved(values, mode, GUARD) is improved


def test_the_verdict_names_the_numbers():
    verdict = judge_stall([2.0] * 50, [2.0, 1.99], "min", GUARD, 50)
    assert (verdict.reason, verdict.step) == (StopReason.STALL, 50)
    assert verdict.message == (
        "the loss did not fall: its median was 2 at step 50, the first 2; nor did a validation improve by 2%"
    )
    assert judge_stall([2.0] * 50, [2.0, 1.9], "min", GUARD, 50) is None
    assert judge_stall([2.0, *[1.0] * 49], [2.0, 2.0], "min", GUARD, 50) is None
