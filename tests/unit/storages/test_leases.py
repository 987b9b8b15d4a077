import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from opttune.storages.leases import Leases
from opttune.storages.records import ALIVE

BEAT = 0.05


class Study:
    """The attributes of a study that several processes share."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def holder(self, is_shared: bool = True) -> Leases:
        return Leases(lambda: self.attributes, self.attributes.__setitem__, is_shared, BEAT, settle_seconds=0.0)


def await_that(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(BEAT)
    return condition()


@pytest.mark.slow
def test_a_holder_that_gives_signs_of_life_is_not_gone_and_one_that_stops_is() -> None:
    study = Study()
    first, second = study.holder(), study.holder()
    first.start()
    watched = [second.is_expired(first.holder) for _ in range(20) if time.sleep(BEAT) is None]
    first.end()

    assert not any(watched)
    assert await_that(lambda: second.is_expired(first.holder))


def test_no_clock_of_another_is_read(monkeypatch: Any) -> None:
    study = Study()
    reporter = study.holder()
    # whatever the other counts in, even backwards: it lives as long as it changes
    for sign in (10**12, -5, 0, 3, 1, 2):
        study.attributes[f"{ALIVE}.elsewhere/7/abc"] = sign
        assert not reporter.is_expired("elsewhere/7/abc")
        time.sleep(2 * BEAT)


def test_the_clock_of_a_watcher_begins_when_it_looks_first() -> None:
    study = Study()
    study.attributes[f"{ALIVE}.elsewhere/7/abc"] = 1
    time.sleep(6 * BEAT)
    reporter = study.holder()

    assert not reporter.is_expired("elsewhere/7/abc")
    assert await_that(lambda: reporter.is_expired("elsewhere/7/abc"))


def test_a_dead_process_of_this_machine_is_gone_at_once_and_a_living_one_is_not() -> None:
    reporter = Study().holder()
    place = reporter.holder.rpartition("/")[0].rpartition("/")[0]
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = f"{place}/{process.pid}/abc"
    alive = reporter.is_expired(name)
    process.kill()
    process.wait()

    assert (alive, reporter.is_expired(name)) == (False, True)
    assert not reporter.is_expired(f"{place}/{os.getpid()}/abc")
    # the same number on another machine says nothing
    assert not reporter.is_expired(f"elsewhere/{process.pid}/abc")


def test_where_a_search_is_alone_every_other_holder_is_gone_but_not_itself() -> None:
    alone = Study().holder(is_shared=False)

    assert alone.is_expired("elsewhere/7/abc")
    assert alone.is_expired("")
    assert not alone.is_expired(alone.holder)


def test_a_trial_without_a_name_is_given_time_to_get_one() -> None:
    reporter = Study().holder()

    assert not reporter.is_expired("")
    assert await_that(lambda: reporter.is_expired(""))


def test_alone_nothing_is_written_and_no_time_is_lost() -> None:
    study = Study()
    alone = Leases(lambda: study.attributes, study.attributes.__setitem__, False, BEAT, settle_seconds=60.0)
    alone.start()
    alone.settle()
    alone.end()

    assert study.attributes == {}


def test_a_storage_that_fails_for_a_while_stops_no_signs_of_life() -> None:
    failures = [OSError("away"), OSError("away")]
    study = Study()

    def write(name: str, value: Any) -> None:
        if failures:
            raise failures.pop()
        study.attributes[name] = value

    holder = Leases(lambda: study.attributes, write, True, BEAT, 0.0)
    holder.start()
    assert await_that(lambda: bool(study.attributes))
    holder.end()
