import math

import pytest

from opttune.tracking.operations import Kind, Operation


@pytest.mark.parametrize("kind", list(Kind))
def test_a_line_is_read_back(kind):
    operation = Operation(kind, "key", {"a": "with\nnew line and ü"})
    line = operation.to_line()
    assert line.count(b"\n") == 1
    assert Operation.from_line(line) == operation


def test_numbers_of_every_kind_are_written():
    class OtherNumber:
        def __float__(self):
            return 2.5

    line = Operation(Kind.METRICS, "key", [("a", math.nan, 1, 2), ("b", -math.inf, 1, 2), ("c", OtherNumber(), 1, 2)])
    nan, inf, other = Operation.from_line(line.to_line()).data
    assert math.isnan(nan[1])
    assert inf[1] == -math.inf
    assert other[1] == 2.5


@pytest.mark.parametrize("line", [b"", b"\n", b'["metrics","k",[["a",1', b'["unknown","k",{}]\n', b"[]\n", b"\xff\n"])
def test_a_damaged_line_is_nothing(line):
    assert Operation.from_line(line) is None
