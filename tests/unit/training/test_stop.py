"""A request to end a training: it ends after its step and saves its state, and resumes bit for bit."""

import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.guard.steps import StepRecord
from opttune.outcome import Outcome, StopReason
from opttune.space.sample import default_recipe
from opttune.training.attempt import Attempt, run_attempt
from opttune.training.stop import NEVER, StopSwitch
from opttune.training.workload import Workload
from tests.support.search_models import Classifier, loaders
from tests.support.searches import TINY, make_space

STEPS = 20
ATTEMPT = Attempt(default_recipe(make_space(TINY)), "val_loss", 0, {"max_steps": STEPS})


class StopAfter:
    """Requests a stop after a step, and records what it receives."""

    def __init__(self, step: int) -> None:
        self.step, self.switch = step, StopSwitch()
        self.records: list[StepRecord] = []
        self.validations = 0

    def steps(self, records: list[StepRecord]) -> None:
        self.records += records
        self.switch.stop_requested = records[-1].step >= self.step

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.validations += "val_loss" in values


def train(attempt: Attempt, listener: StopAfter) -> Outcome:
    return run_attempt(attempt, Workload(Classifier, loaders), listener, listener.switch)


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("step", [3, 8])
def test_it_ends_after_its_step_and_resumes_bit_for_bit(step: int, accumulated: int, tmp_path: Path) -> None:
    recipe = ATTEMPT.recipe and replace(ATTEMPT.recipe, accumulate_grad_batches=accumulated)
    attempt = replace(ATTEMPT, recipe=recipe)
    path = tmp_path / "states" / "stopped.ckpt"
    undisturbed, pressed, resumed = StopAfter(99), StopAfter(step), StopAfter(99)
    expected = train(attempt, undisturbed)
    stopped = train(replace(attempt, stop_checkpoint=path), pressed)
    found = train(replace(attempt, resume_from=path), resumed)

    assert (stopped.reason, stopped.value, stopped.steps) == (StopReason.INTERRUPTED, None, step + 1)
    assert stopped.message == f"interrupted at step {step + 1}"
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["stopped.ckpt"]
    assert (found.reason, found.value, found.steps) == (StopReason.COMPLETED, expected.value, STEPS)
    assert pressed.records + resumed.records == undisturbed.records


def test_before_a_rung_the_state_is_saved_as_that_of_a_stop(tmp_path: Path) -> None:
    listener = StopAfter(4)
    paths = {"checkpoint": tmp_path / "rung.ckpt", "stop_checkpoint": tmp_path / "stopped.ckpt"}
    outcome = train(replace(ATTEMPT, until_step=12, **paths), listener)

    assert (outcome.reason, outcome.steps) == (StopReason.INTERRUPTED, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["stopped.ckpt"]
    assert listener.validations == 0


@pytest.mark.parametrize(("until", "reason"), [(5, StopReason.PAUSED), (None, StopReason.COMPLETED)])
def test_a_training_that_is_at_its_end_anyway_ends_normally(
    until: int | None, reason: StopReason, tmp_path: Path
) -> None:
    listener = StopAfter((until or STEPS) - 1)
    paths = {"checkpoint": tmp_path / "end.ckpt", "stop_checkpoint": tmp_path / "stopped.ckpt"}
    outcome = train(replace(ATTEMPT, until_step=until, **paths), listener)

    assert outcome.reason is reason
    assert outcome.value is not None
    assert [path.name for path in tmp_path.iterdir()] == ["end.ckpt"]


def test_without_a_path_for_its_state_it_ends_too() -> None:
    assert train(ATTEMPT, StopAfter(4)).reason is StopReason.INTERRUPTED


def test_never_requests_no_stop() -> None:
    assert not NEVER.stop_requested


@pytest.mark.parametrize("handled", [True, False])
def test_sigterm_goes_to_the_handler_from_before_the_fit(handled: bool) -> None:
    received: list[int] = []

    class Terminated(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if handled and self.trainer.global_step == 3:
                signal.raise_signal(signal.SIGTERM)
            return super().training_step(batch, batch_idx)

    usual = signal.getsignal(signal.SIGTERM)
    ours = (lambda number, frame: received.append(number)) if handled else signal.SIG_DFL
    signal.signal(signal.SIGTERM, ours)
    try:
        outcome = run_attempt(ATTEMPT, Workload(Terminated, loaders), StopAfter(99))
        after = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, usual)

    assert outcome.reason is StopReason.COMPLETED
    assert received == [signal.SIGTERM] * handled
    assert after == ours
