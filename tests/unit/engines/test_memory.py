import torch

from opttune.engines.memory import GarbageCollector, rss_bytes

MEGABYTE = 2**20


def test_what_is_held_counts_and_what_is_given_back_does_not() -> None:
    before = rss_bytes()
    held = torch.ones(100 * MEGABYTE // 4)
    meanwhile = rss_bytes()
    del held

    assert meanwhile - before > 90 * MEGABYTE
    assert rss_bytes() < meanwhile - 90 * MEGABYTE


class Holding:
    """Two that hold one another, and much memory."""

    def __init__(self) -> None:
        self.other = self
        self.held = torch.ones(100 * MEGABYTE // 4)


def test_what_holds_itself_is_given_back() -> None:
    sweeper = GarbageCollector()
    before = rss_bytes()
    for _ in range(5):
        Holding()
        sweeper.sweep()

    assert rss_bytes() < before + 50 * MEGABYTE
