from hypothesis import given
from hypothesis import strategies as st

from opttune.algorithms.observations import Observation, scores


def order(*observations: Observation) -> list[int]:
    """Return the places of trials, the best first, the earliest of equals first."""
    found = scores(observations)
    return sorted(range(len(observations)), key=lambda index: (found[index], index))


def lived(*values: float) -> Observation:
    return Observation({}, values)


def test_the_value_in_hand_counts_whatever_the_rung() -> None:
    assert order(lived(0.9, 0.5, 0.4), lived(0.3), lived(0.2, 0.6)) == [1, 0, 2]


def test_those_that_died_come_last() -> None:
    found = scores([Observation({}, failed_at=0.9), lived(1e12), lived(1.0), lived(0.5)])

    assert found[0] == max(found)
    assert found[3] == min(found)


def test_bad_trials_are_alike_and_good_ones_are_not() -> None:
    found = scores([lived(float(number)) for number in range(20)])

    assert len(set(found[:10])) == 10
    assert found[-1] == found[-2] == max(found)


def test_no_trials_have_no_scores() -> None:
    assert scores([]) == []
    assert len(scores([lived(1.0)])) == 1


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3), max_size=30), st.integers(0, 5))
def test_scores_are_bounded_and_never_contradict_the_values(values: list[list[float]], dead: int) -> None:
    observations = [
        *(lived(*one) for one in values),
        *(Observation({}, failed_at=number / 10) for number in range(dead)),
    ]
    found = scores(observations)

    assert all(-4 < score <= 0.5 for score in found)
    for one, score in zip(values, found, strict=False):
        for other, than in zip(values, found, strict=False):
            assert score <= than or one[-1] >= other[-1]
