from math import nan

from opttune.report.chart import is_steep, room_for


def test_a_logarithmic_axis_is_for_values_above_0_that_are_far_apart() -> None:
    assert is_steep([1e-3, nan, 1.0])
    assert not is_steep([-1.0, 100.0])
    assert not is_steep([])


def test_an_axis_has_room_above_for_marks_of_no_value() -> None:
    for values, log in (([1.0, 3.0], False), ([0.01, 10.0], True), ([2.0], False), ([2.0], True), ([0.0], False)):
        low, high = room_for(values, log=log)
        assert low < min(values)
        assert high > max(values)
        assert not log or low > 0
