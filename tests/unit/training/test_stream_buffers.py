"""What a stream draws from is noted by reference at an epoch's start; tests/end_to_end resumes a replay buffer."""

import threading
from collections import deque
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from opttune.training.stream_buffers import containers_of, contents_of, from_bytes, put_contents, to_bytes


class Memory:
    def __init__(self) -> None:
        self.items: deque[Any] = deque([1, 2], maxlen=4)
        self.lock = threading.Lock()


class Stream(IterableDataset[Any]):
    def __init__(self) -> None:
        self.memory, self.weights, self.names = Memory(), np.zeros(2), {"a": 1}
        self.states, self.again = torch.zeros(2), self.memory

    def __iter__(self) -> Any:
        return iter(self.memory.items)


class Items(Dataset[Any]):
    def __init__(self) -> None:
        self.items = [1, 2]

    def __getitem__(self, index: int) -> int:
        return self.items[index]


def test_containers_of_a_stream_are_found_also_in_its_objects_each_once() -> None:
    stream = Stream()
    found = containers_of(stream)

    assert {id(one) for one in found} == {
        id(one) for one in (stream.memory.items, stream.weights, stream.names, stream.states)
    }
    assert len(found) == 4
    assert containers_of(Items()) == []


def test_what_they_held_is_put_back_in_place() -> None:
    stream = Stream()
    containers = containers_of(stream)
    held = contents_of(containers)
    stream.memory.items.extend([3, 4, 5])
    stream.weights += 1
    stream.states += 1
    stream.names["b"] = 2
    now = contents_of(containers)

    put_contents(containers, held)
    assert (list(stream.memory.items), stream.names) == ([1, 2], {"a": 1})
    assert (stream.weights.sum(), float(stream.states.sum())) == (0, 0)

    put_contents(containers, now)
    assert list(stream.memory.items) == [2, 3, 4, 5]
    assert float(stream.states.sum()) == 2


def test_contents_come_back_from_bytes_where_they_can_be_pickled() -> None:
    contents = contents_of(containers_of(Stream()))
    stored = to_bytes(contents)
    assert stored is not None

    assert [type(one) for one in from_bytes(stored)] == [type(one) for one in contents]
    assert to_bytes([[threading.Lock()]]) is None
    assert to_bytes([]) is None
    assert to_bytes(None) is None
