"""Attempts on two CPU ranks, in processes of their own."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opttune import Guard
from opttune.engines.attempt_file import OUTCOME, save_result
from opttune.engines.multi_device import _result_of, inspect_on_devices, run_on_devices
from opttune.outcome import Outcome, StopReason
from opttune.training.attempt import Attempt
from opttune.training.stop import StopSwitch
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support import pauses
from tests.support.listeners import RecordingListener
from tests.support.searches import MODULES, TINY, make_database, run_command, write_space

TWO = {"max_steps": 14, "devices": 2, "accelerator": "cpu", "strategy": "ddp_spawn"}
ATTEMPT = Attempt(pauses.RECIPE, "val_loss", 3, TWO, guard=Guard())


class Dies(m.Net):
    """Its second rank is killed in the third step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 2 and self.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


class Raises(m.Net):
    """Its second rank has a bug in the third step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 2 and self.global_rank == 1:
            raise RuntimeError("a bug of the second rank's")
        return super().training_step(batch, batch_idx)


class Waits(m.Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        time.sleep(0.5)
        return super().training_step(batch, batch_idx)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_training_that_was_paused_in_mid_epoch_resumes_as_if_it_had_not_been(tmp_path: Path) -> None:
    workload, whole, paused = Workload(pauses.Net, pauses.loaders), tmp_path / "whole.ckpt", tmp_path / "paused.ckpt"
    listeners = RecordingListener(), RecordingListener()
    expected = run_on_devices(replace(ATTEMPT, checkpoint=whole), workload, listeners[0])
    # an epoch is four steps of both ranks
    first = run_on_devices(replace(ATTEMPT, checkpoint=paused, until_step=6), workload, listeners[1])
    second = run_on_devices(replace(ATTEMPT, checkpoint=paused, resume_from=paused), workload, listeners[1])

    assert (first.reason, first.steps, second.reason) == (StopReason.PAUSED, 6, StopReason.COMPLETED)
    assert listeners[1].records == listeners[0].records
    assert listeners[0].step_numbers == list(range(1, 15))
    assert second.value == expected.value
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (whole, paused)]
    assert all(torch.equal(one, other) for one, other in zip(*(state.values() for state in states), strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_rank_that_is_killed_ends_the_trial_as_failed(tmp_path: Path) -> None:
    started = time.monotonic()
    attempt = replace(ATTEMPT, checkpoint=tmp_path / "end.ckpt")
    outcome = run_on_devices(attempt, Workload(Dies, m.loaders), RecordingListener())
    assert (outcome.reason, outcome.value) == (StopReason.FAILED, None)
    assert outcome.traceback
    assert time.monotonic() - started < 200
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_error_of_any_rank_is_told() -> None:
    outcome = run_on_devices(ATTEMPT, Workload(Raises, m.loaders), RecordingListener())
    assert outcome.reason is StopReason.FAILED
    assert outcome.message.startswith("RuntimeError: a bug of the second rank's (")


@pytest.mark.slow
def test_the_guard_stops_all_ranks() -> None:
    listener = RecordingListener()
    outcome = run_on_devices(replace(ATTEMPT, recipe=None), Workload(m.NanAtStep7, m.loaders), listener)
    assert (outcome.reason, outcome.steps) == (StopReason.NON_FINITE, 10)
    assert outcome.message == "the loss became nan at step 7"
    assert outcome.stopped_lr == pytest.approx(1e-4)
    assert listener.reports[-1][0] == 8


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_stop_does_not_wait_for_its_end() -> None:
    switch = StopSwitch()
    threading.Timer(3, lambda: setattr(switch, "stop_requested", True)).start()
    attempt = replace(ATTEMPT, trainer={**TWO, "max_steps": 10_000})
    outcome = run_on_devices(attempt, Workload(Waits, m.loaders), RecordingListener(), switch)
    assert (outcome.reason, outcome.value) == (StopReason.INTERRUPTED, None)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_look_at_a_model_sees_the_steps_of_both_ranks() -> None:
    attempt = replace(ATTEMPT, trainer={**TWO, "max_steps": -1, "max_epochs": 3})
    looked = inspect_on_devices(attempt, Workload(m.Net, m.loaders), steps=1)
    assert (looked.total_steps, looked.replaced) == (3 * m.BATCHES // 2, "SGD(lr=0.0001)")


@pytest.mark.slow
def test_the_command_searches_on_two_ranks(tmp_path: Path) -> None:
    command = ["search", f"{MODULES}:Classifier", f"{MODULES}:loaders", "--no-report", "--json"]
    command += ["--space", str(write_space(tmp_path, TINY)), "--max-steps", "100", "--budget", "1", "--no-baseline"]
    command += ["--trainer", "devices=2", "--trainer", "strategy=ddp", "--trainer", "accelerator=cpu"]
    make_database(tmp_path)
    done = run_command(tmp_path, *command)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [row["reason"] for row in found["trials"]] == ["completed"]
    assert (found["trials"][0]["steps"], found["steps_spent"]) == (100, 100)
    assert found["best_value"] < 1.5


def test_on_one_device_a_look_is_taken_here() -> None:
    attempt = replace(ATTEMPT, trainer={"max_steps": 14, "accelerator": "cpu"})
    assert inspect_on_devices(attempt, Workload(m.Net, m.loaders), steps=0).total_steps == 14


def test_the_first_rank_to_fail_is_reported(tmp_path: Path) -> None:
    assert _result_of(tmp_path) is None
    lost = Outcome(StopReason.FAILED, None, 2, 10, 0.0, "RuntimeError: connection closed by peer")
    save_result(tmp_path, Outcome(StopReason.FAILED, None, 2, 10, 0.0, "ValueError: the cause"), of_rank="1")
    os.utime(tmp_path / f"{OUTCOME}.rank1", (1, 1))
    save_result(tmp_path, lost)
    found = _result_of(tmp_path)
    assert isinstance(found, Outcome)
    assert found.message == "ValueError: the cause"
    save_result(tmp_path, Outcome(StopReason.COMPLETED, 0.5, 10, 10, 0.0))
    assert isinstance(_result_of(tmp_path), Outcome)
    assert json.loads((tmp_path / OUTCOME).read_text())["outcome"]["reason"] == "completed"
