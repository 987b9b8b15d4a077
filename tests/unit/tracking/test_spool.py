"""Operations as lines, and the file that keeps them until they are delivered."""

import math
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from opttune.shared_folder import files_in, remove_empty
from opttune.tracking.operations import Kind, Operation
from opttune.tracking.spool import Spool, count_waiting


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


def tags(*names):
    return [Operation(Kind.TAGS, "run", {name: name}) for name in names]


def metrics(count):
    return [Operation(Kind.METRICS, "run", [["loss", 0.5, step, 1]]) for step in range(count)]


def drain(spool, most=1000):
    found = []
    while window := spool.peek(most):
        found += window
        spool.advance(len(window))
    return found


@pytest.fixture
def spool_in():
    """Makes spools, and closes them after the test."""
    with ExitStack() as stack:

        def make(folder, **settings):
            spool = Spool(folder, **settings)
            stack.callback(spool.close)
            return spool

        yield make


@pytest.fixture(params=["disk", "memory"])
def spool(request, tmp_path, spool_in):
    return spool_in(tmp_path / "spool" if request.param == "disk" else None)


def test_what_goes_in_comes_out_in_order(spool):
    spool.append(tags("a", "b"))
    spool.append(tags("c"))
    assert spool.waiting == 3
    assert spool.peek(2) == tags("a", "b")
    assert spool.peek(2) == tags("a", "b")
    spool.advance(2)
    spool.append(tags("d"))
    assert drain(spool, most=1) == tags("c", "d")
    assert spool.waiting == 0
    spool.append(tags("e"))
    assert drain(spool) == tags("e")


def test_the_file_does_not_grow_while_all_is_delivered(tmp_path, spool_in):
    spool = spool_in(tmp_path)
    for _ in range(50):
        spool.append(metrics(10))
        drain(spool)
    (file,) = tmp_path.glob("*.jsonl")
    assert file.stat().st_size < 10 * 100


def test_nothing_is_left_where_nothing_waits(tmp_path, spool_in):
    spool = spool_in(tmp_path)
    spool.append(tags("a"))
    drain(spool)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_the_next_spool_continues_where_the_last_one_closed(tmp_path, spool_in):
    first = spool_in(tmp_path)
    first.append(tags("a", "b", "c"))
    first.peek(1)
    first.advance(1)
    first.close()
    second = spool_in(tmp_path)
    assert second.waiting == 2
    second.append(tags("d"))
    assert drain(second) == tags("b", "c", "d")
    second.close()
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_living_writers_file_is_left_alone(tmp_path, spool_in):
    first, second = spool_in(tmp_path), spool_in(tmp_path)
    first.append(tags("a"))
    third = spool_in(tmp_path)
    assert (second.waiting, third.waiting) == (0, 0)
    first.close()
    assert spool_in(tmp_path).waiting == 1


def test_a_line_cut_off_by_a_kill_is_passed_over(tmp_path, spool_in):
    (tmp_path / "1-1.jsonl").write_bytes(tags("a")[0].to_line() + tags("b")[0].to_line()[:-5])
    spool = spool_in(tmp_path)
    assert spool.waiting == 2
    first, second = drain(spool)
    assert [first] == tags("a")
    assert second.data == []


def test_an_unwritable_folder_keeps_a_bounded_number_in_memory(tmp_path, spool_in):
    (tmp_path / "file").touch()
    spool = spool_in(tmp_path / "file" / "spool", most_in_memory=100)
    spool.append(metrics(150))
    spool.append(tags("end"))
    assert spool.lost == 50
    # what says how a run ended is never dropped
    assert drain(spool)[-1:] == tags("end")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_loses_nothing(tmp_path, spool_in):
    spool = spool_in(tmp_path)
    spool.append(tags("a"))
    own = spool._own
    with Path("/dev/full").open("wb", buffering=0) as full:
        disk, own._stream = own._stream, full
        spool.append(tags("b"))
        own._stream = disk
    spool.append(tags("c"))
    assert drain(spool) == tags("a", "b", "c")
    assert spool.lost == 0


def test_a_folder_deleted_under_it_costs_only_what_was_in_it(tmp_path, spool_in):
    spool = spool_in(tmp_path / "spool")
    spool.append(tags("a"))
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    (tmp_path / "spool").rmdir()
    assert drain(spool) == []
    assert (spool.lost, spool.waiting) == (1, 0)
    spool.append(tags("b"))
    assert drain(spool) == tags("b")


def test_what_memory_holds_is_written_at_the_close(tmp_path, spool_in):
    blocker = tmp_path / "spool"
    blocker.touch()
    spool = spool_in(blocker)
    spool.append(tags("a"))
    blocker.unlink()
    spool.close()
    assert drain(spool_in(blocker)) == tags("a")


def test_a_file_that_its_writer_delivers_meanwhile_holds_nothing_that_waits(tmp_path, spool_in):
    spool = spool_in(tmp_path)
    spool.append(metrics(3))
    (tmp_path / "1-1.jsonl").symlink_to("gone")

    assert count_waiting(tmp_path) == 3


def test_a_lock_that_is_taken_when_its_writer_has_just_gone_is_not_left_behind(tmp_path, spool_in, monkeypatch):
    writer = spool_in(tmp_path / "spool")
    writer.append(metrics(1))

    # the writer delivers the last, and goes, between the other's look and its lock
    def look(folder):
        found = files_in(folder)
        drain(writer)
        writer.close()
        return found

    monkeypatch.setattr("opttune.tracking.spool.files_in", look)
    spool_in(tmp_path / "spool")
    remove_empty(tmp_path / "spool")

    assert not (tmp_path / "spool").exists()
