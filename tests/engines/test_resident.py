import torch

from opttune.engines.resident import resident_bytes

MEGABYTE = 2**20


def test_what_is_held_counts_and_what_is_given_back_does_not() -> None:
    before = resident_bytes()
    held = torch.ones(100 * MEGABYTE // 4)
    meanwhile = resident_bytes()
    del held

    assert meanwhile - before > 90 * MEGABYTE
    assert resident_bytes() < meanwhile - 90 * MEGABYTE
