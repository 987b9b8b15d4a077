import math
import pickle
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opttune.errors import InputError, OpttuneError
from opttune.outcome import Outcome, StopReason
from opttune.yaml_text import read_yaml, write_yaml
from tests.support.strategies import FAST, finite, plain_data, texts

COMPLETED = Outcome(StopReason.COMPLETED, 0.5, steps=10, total_steps=10, seconds=1.0)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    reason = draw(st.sampled_from(StopReason))
    return Outcome(
        reason,
        draw(finite) if reason.has_value else None,
        steps=draw(st.integers(0, 2**62)),
        total_steps=draw(st.integers(0, 2**62)),
        seconds=draw(st.floats(0, 1e300)),
        message=draw(texts),
        traceback=draw(texts),
        replaced=draw(texts),
    )


@FAST
@given(outcomes())
def test_an_outcome_comes_back_from_yaml_without_loss(outcome: Outcome) -> None:
    read = Outcome.from_dict(read_yaml(write_yaml(outcome.to_dict())).data)

    assert repr(read) == repr(outcome)


@FAST
@given(outcomes())
def test_an_outcome_comes_back_from_a_pickle(outcome: Outcome) -> None:
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_a_dict_of_an_outcome_holds_plain_values_only() -> None:
    assert {type(value) for value in COMPLETED.to_dict().values()} == {str, float, int, bool, type(None)}


@FAST
@given(plain_data)
def test_any_other_data_is_refused_with_one_clear_error(data: Any) -> None:
    with pytest.raises(InputError, match=r"^outcome: "):
        Outcome.from_dict(data)


@FAST
@given(st.sampled_from(list(COMPLETED.to_dict())), plain_data)
def test_a_field_of_the_wrong_kind_is_an_error_or_an_outcome_that_comes_back(name: str, value: Any) -> None:
    found = _outcome_or_problem({**COMPLETED.to_dict(), name: value})

    if isinstance(found, str):
        assert re.fullmatch(r"outcome: .+", found)
    else:
        assert Outcome.from_dict(found.to_dict()) == found


def _outcome_or_problem(data: dict[str, Any]) -> Outcome | str:
    try:
        return Outcome.from_dict(data)
    except OpttuneError as err:
        return str(err)


@pytest.mark.parametrize("reason", StopReason)
def test_a_value_goes_with_a_reason_that_has_one_and_no_other(reason: StopReason) -> None:
    wrong = None if reason.counts else 0.5
    if reason.has_value and not reason.counts:
        # at a rung the metric may not be defined yet
        assert replace(COMPLETED, reason=reason, value=None).value is None
        return
    with pytest.raises(InputError, match=f"^outcome: reason {reason} does not fit value {wrong}\\.$"):
        replace(COMPLETED, reason=reason, value=wrong)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "0.5"])
def test_a_value_that_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^outcome: value must be a finite number or None, got "):
        replace(COMPLETED, value=value)


def test_an_unknown_reason_lists_the_reasons() -> None:
    with pytest.raises(InputError, match=r"^outcome: unknown reason 'stopped'. Allowed: blow_up, completed, "):
        Outcome.from_dict({**COMPLETED.to_dict(), "reason": "stopped"})


def test_a_reason_must_be_a_stop_reason_not_its_text() -> None:
    with pytest.raises(InputError, match=r"^outcome: reason must be a StopReason, got 'completed'.$"):
        replace(COMPLETED, reason="completed")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match=r"^outcome: there is no 'value'.$"):
        Outcome.from_dict({"reason": "completed"})


def test_a_value_counts_where_the_training_has_finished() -> None:
    assert {reason for reason in StopReason if reason.counts} == {StopReason.COMPLETED, StopReason.EARLY_STOPPED}
    at_a_rung = {reason for reason in StopReason if reason.has_value and not reason.counts}
    assert at_a_rung == {StopReason.PAUSED, StopReason.OUTRANKED}


def test_divergence_is_non_finite_or_blow_up() -> None:
    diverged = {reason for reason in StopReason if reason.is_divergence}

    assert diverged == {StopReason.NON_FINITE, StopReason.BLOW_UP}
    assert not any(reason.has_value for reason in diverged)


def test_a_recipe_that_diverges_stalls_or_needs_too_much_memory_is_infeasible() -> None:
    infeasible = {reason for reason in StopReason if reason.is_infeasible}

    assert infeasible == {StopReason.NON_FINITE, StopReason.BLOW_UP, StopReason.STALL, StopReason.OUT_OF_MEMORY}


@pytest.mark.parametrize(
    ("reason", "steps", "stopped_lr", "diverged"),
    [
        (StopReason.BLOW_UP, 4, 0.1, True),
        (StopReason.NON_FINITE, 4, None, True),
        # a metric alone was NaN at the end
        (StopReason.NON_FINITE, 10, None, False),
        (StopReason.COMPLETED, 10, None, False),
    ],
)
def test_it_says_whether_the_training_diverged(
    reason: StopReason, steps: int, stopped_lr: float | None, diverged: bool
) -> None:
    value = 0.5 if reason.has_value else None
    assert replace(COMPLETED, reason=reason, value=value, steps=steps, stopped_lr=stopped_lr).has_diverged is diverged
