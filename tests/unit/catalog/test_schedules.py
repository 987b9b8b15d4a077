"""Rows of schedules; what holds for each of them stands in the contracts."""

from opttune.catalog.schedules import SCHEDULES, WARMUP_FRACTION


def test_schedules_that_rise_by_themselves_or_wait_have_no_warmup() -> None:
    bare = {info.name for info in SCHEDULES if WARMUP_FRACTION not in info.options}
    assert bare == {"one_cycle", "cyclical", "plateau"}
