from dataclasses import replace

import pytest

from opttune.outcome import Outcome, StopReason
from opttune.runtime.stopper import FailureStopper

DONE = Outcome(StopReason.COMPLETED, 0.5, 10, 10, 1.0)
PAUSED = Outcome(StopReason.PAUSED, 0.5, 5, 10, 1.0)
DIVERGED = Outcome(StopReason.NON_FINITE, None, 3, 10, 1.0, "the loss is nan")

UNLIKE = ("ValueError: one", "OSError: two", "KeyError: three", "TypeError: four")


def failed(message: str) -> Outcome:
    return Outcome(StopReason.FAILED, None, 0, 10, 0.0, message)


def verdict(*outcomes: Outcome) -> str:
    failures = FailureStopper()
    for outcome in outcomes:
        failures.note(outcome)
    return failures.verdict


def test_nothing_failed_is_no_verdict() -> None:
    assert verdict() == ""
    assert verdict(DONE, PAUSED, DIVERGED) == ""


def test_three_alike_in_a_row_end_a_search_and_the_last_is_quoted() -> None:
    assert verdict(*[failed("OSError: no file")] * 2) == ""
    assert verdict(*[failed("OSError: no file")] * 3) == "the last 3 trials failed alike: OSError: no file"


@pytest.mark.parametrize("success", [DONE, PAUSED, DIVERGED], ids=lambda outcome: str(outcome.reason))
def test_a_trial_that_trained_starts_the_count_anew(success: Outcome) -> None:
    assert verdict(*[failed("OSError")] * 2, success, *[failed("OSError")] * 2) == ""


@pytest.mark.parametrize(
    "messages",
    [
        ("RuntimeError: lr 0.1 is too large", "RuntimeError: lr 3e-05 is too large", "RuntimeError: lr 2 is too large"),
        ("<Net at 0x7f31a>", "<Net at 0x7f31b>", "<Net at 0xdead>"),
        ("KeyError: 'x' (/m.py:3)", "KeyError: 'x' (/m.py:17)", "KeyError: 'x' (/m.py:3)"),
        ("shape 3x4", "shape 3x5", "shape 12x4"),
    ],
)
def test_messages_that_differ_in_numbers_only_are_alike(messages: tuple[str, ...]) -> None:
    assert verdict(*map(failed, messages)).startswith("the last 3 trials failed alike: ")


def test_different_errors_are_not_alike() -> None:
    assert verdict(*map(failed, UNLIKE)) == ""
    assert verdict(failed("OSError"), failed("KeyError"), failed("OSError"), failed("OSError")) == ""


def test_only_the_last_three_need_be_alike() -> None:
    assert "failed alike" in verdict(failed("KeyError"), *[failed("OSError")] * 3)


def test_ten_in_a_row_end_a_search_whatever_their_errors() -> None:
    outcomes = [failed(UNLIKE[number % 4]) for number in range(10)]

    assert verdict(*outcomes[:9]) == ""
    assert verdict(*outcomes) == "the last 10 trials failed, the last with: OSError: two"
    assert verdict(*outcomes, failed("again")) == "the last 11 trials failed, the last with: again"


def test_three_alike_of_one_optimizer_leave_it_out_and_do_not_end_the_search() -> None:
    failures = FailureStopper(optimizers=3)
    for _ in range(3):
        failures.note(failed("RuntimeError: no complex\n  numbers"), "muon")
    assert failures.verdict == ""
    assert failures.left_out == {
        "muon": "3 trials of muon failed alike, and it is tried no more: RuntimeError: no complex numbers"
    }


def test_three_alike_of_several_optimizers_end_the_search() -> None:
    failures = FailureStopper(optimizers=3)
    for optimizer in ("muon", "adamw", "adamw"):
        failures.note(failed("OSError: no file"), optimizer)
    assert failures.verdict == "the last 3 trials failed alike: OSError: no file"


def test_where_every_optimizer_is_left_out_the_search_ends() -> None:
    failures = FailureStopper(optimizers=2)
    for optimizer, message in (("muon", "KeyError: one"), ("adamw", "OSError: two")):
        for _ in range(3):
            failures.note(failed(message), optimizer)
    assert failures.verdict == "the trials of every optimizer failed alike, the last with: OSError: two"


def test_ten_that_become_non_finite_in_one_step_end_a_search() -> None:
    at_seven = Outcome(StopReason.NON_FINITE, None, 10, 90, 1.0, "the loss became nan at step 7")
    at_eight = replace(at_seven, message="the loss became nan at step 8")

    assert verdict(*[at_seven] * 9) == ""
    assert verdict(*[at_seven] * 10).startswith("of the last 10 trials, the loss became nan at step 7, whatever their")
    assert verdict(at_eight, *[at_seven] * 9) == ""
    assert verdict(*[at_seven] * 5, PAUSED, *[at_seven] * 9) == ""
