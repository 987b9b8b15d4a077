import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from opttune.runtime.signals import DeferredInterrupts


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def press_and(reached: list[str], word: str) -> None:
    press()
    reached.append(word)


def press_for_a_moment(interrupts: DeferredInterrupts, reached: list[str]) -> None:
    with interrupts.held():
        press()
        press_and(reached, "the end of the moment")
    reached.append("after the moment")


def test_ctrl_c_waits_until_the_end() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt), DeferredInterrupts():
        press_and(reached, "the end")

    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def released(interrupts: DeferredInterrupts, *steps: Callable[[], object]) -> None:
    with interrupts.released():
        for step in steps:
            step()


def press_once(reached: list[str]) -> DeferredInterrupts:
    def write() -> None:
        with interrupts.held():
            reached.append("its numbers are written")

    with DeferredInterrupts() as interrupts:
        released(interrupts, lambda: press_and(reached, "the step continues"), write)
        assert interrupts.stop_requested
        assert not interrupts.is_forced
        reached.append("what came of it")
    return interrupts


def test_a_first_ctrl_c_asks_the_training_to_end_and_is_raised_when_all_is_written() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press_once(reached)

    assert reached == ["the step continues", "its numbers are written", "what came of it"]


def test_a_second_ctrl_c_in_a_held_moment_interrupts_at_its_end() -> None:
    reached: list[str] = []

    def write() -> None:
        with interrupts.held():
            press()
            press_and(reached, "its state is written")

    with DeferredInterrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            released(interrupts, write, lambda: reached.append("never"))
        reached.append("after")

    assert reached == ["its state is written", "after"]
    assert interrupts.is_forced


def terminate_and(reached: list[str]) -> None:
    with DeferredInterrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.stop_requested
        reached.append("the end")


def test_sigterm_is_as_ctrl_c_and_its_handler_comes_back() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        terminate_and(reached)

    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_is_handled_where_ctrl_c_is_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt), DeferredInterrupts(grace_seconds=0.05) as interrupts:
        released(interrupts, lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: time.sleep(30))


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    reached: list[str] = []
    with DeferredInterrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        released(interrupts, lambda: press_and(reached, "the first"), lambda: press_and(reached, "never"))

    assert reached == ["the first"]


def test_a_first_that_is_ignored_interrupts_after_the_grace_period() -> None:
    reached: list[str] = []
    with DeferredInterrupts(grace_seconds=0.05) as interrupts, pytest.raises(KeyboardInterrupt):
        released(interrupts, press, lambda: time.sleep(30), lambda: reached.append("never"))

    assert reached == []


def press_at_the_end_of_a_stretch(reached: list[str]) -> None:
    with DeferredInterrupts() as interrupts:
        released(interrupts, press)
        reached.append("what came of the training is written")


def test_ctrl_c_at_the_end_of_a_released_stretch_is_raised_at_the_end_of_all() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press_at_the_end_of_a_stretch(reached)

    assert reached == ["what came of the training is written"]


def test_within_a_released_stretch_a_moment_is_held_to_its_end() -> None:
    reached: list[str] = []
    with DeferredInterrupts() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.released():
        press_for_a_moment(interrupts, reached)

    assert reached == ["the end of the moment"]


def test_a_moment_outside_a_released_stretch_raises_nothing_itself() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt), DeferredInterrupts() as interrupts:
        press_for_a_moment(interrupts, reached)

    assert reached == ["the end of the moment", "after the moment"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_swallows_is_not_forgotten() -> None:
    class Swallows:
        def __del__(self) -> None:
            press()

    with DeferredInterrupts() as interrupts, interrupts.released():
        press()
        Swallows()

    assert interrupts.stop_requested


def test_ctrl_c_that_was_held_is_raised_on_release() -> None:
    with DeferredInterrupts() as interrupts:
        press()
        with pytest.raises(KeyboardInterrupt), interrupts.released():
            raise AssertionError("not reached")


def test_an_error_is_not_hidden_by_ctrl_c() -> None:
    def fail() -> None:
        press()
        raise ValueError("the real one")

    with pytest.raises(ValueError, match="the real one"), DeferredInterrupts():
        fail()

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with DeferredInterrupts() as interrupts, interrupts.released():
        press()

    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_in_another_thread_nothing_is_held() -> None:
    seen = []

    def enter() -> None:
        with DeferredInterrupts() as interrupts, interrupts.released():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()

    assert seen == [signal.default_int_handler]
