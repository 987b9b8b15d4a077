"""What a person sees: plain lines in a pipe, a live display on a terminal."""

import io
import os
import pty
import re
import select
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.runtime.display import PlainReporter, make_reporter
from opttune.runtime.progress import ProgressReporter
from opttune.space.auto import ModelFacts
from opttune.space.parse import load_space
from opttune.study.answer import answer_of
from opttune.study.config import SearchConfig
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord
from tests.support.records import record, stored
from tests.support.searches import MODULES, WILD, command_env, make_database, write_space
from tests.support.warm import WarmProcess

PLAN = SearchConfig(load_space("adamw"), "val_loss", "min", {"max_steps": 50}, "Net-adamw", Path("out"), budget=4)
INSPECTION = ModelInspection("Net", 12345, 50, "SGD(lr=0.0001)", True, ModelFacts(parameters=12345), seconds=30.0)
RECIPE = Recipe(Part("sgd", {"lr": 0.1}))


BASELINE = TrialRecord(0, "running", None, None, None, auxiliary=TrainingJob(None, 0, Role.BASELINE))


def trial(number: int) -> TrialRecord:
    return TrialRecord(number, "running", RECIPE, None, None)


def completed(value: float) -> Outcome:
    return Outcome(StopReason.COMPLETED, value, 50, 50, 1.0)


def ended(reason: StopReason, message: str = "why") -> Outcome:
    return Outcome(reason, None, 5, 50, 1.0, message)


def show(reporter: PlainReporter, *outcomes: Outcome) -> None:
    reporter.search_started(PLAN, INSPECTION, [], 0)
    for number, outcome in enumerate(outcomes):
        reporter.training_started(trial(number))
        reporter.training_ended(trial(number), outcome, 50 * (number + 1))


def lines(*outcomes: Outcome) -> list[str]:
    stream = io.StringIO()
    show(PlainReporter(Console(file=stream, width=40)), *outcomes)
    return stream.getvalue().splitlines()


def test_three_lines_say_what_is_searched_what_is_replaced_and_what_it_costs() -> None:
    assert lines() == [
        "opttune: Net (12,345 parameters), val_loss (min), study Net-adamw",
        "replaces SGD(lr=0.0001) by recipes of adamw (space adamw)",
        "plan: 4 trainings of 50 steps, 200 in all, about 2 min; results in out",
    ]


def test_an_instance_is_told_since_its_weights_begin_every_training() -> None:
    assert told(PLAN, replace(INSPECTION, is_instance=True))[0].startswith(
        "opttune: Net (12,345 parameters, weights of the given instance), val_loss (min)"
    )


def told(
    config: SearchConfig, inspection: ModelInspection = INSPECTION, verbose: bool = False, steps_spent: int = 0
) -> list[str]:
    stream = io.StringIO()
    PlainReporter(Console(file=stream), verbose).search_started(config, inspection, [], steps_spent)
    return stream.getvalue().splitlines()


def test_workers_share_the_expected_time_and_an_unknown_pace_promises_none() -> None:
    assert "200 in all, 2 at a time, about 60 s;" in told(replace(PLAN, workers=2))[2]
    assert "200 in all; results" in told(PLAN, replace(INSPECTION, seconds=None))[2]


def test_the_expected_time_holds_the_start_of_each_training_at_each_rung() -> None:
    slow_to_start = replace(INSPECTION, start_seconds=10.0)

    assert PLAN.rungs(50) == (18, 50)
    assert "200 in all, about 3 min;" in told(PLAN, slow_to_start)[2]
    assert "200 in all, about 3 min;" in told(replace(PLAN, pauses=False), replace(INSPECTION, start_seconds=20.0))[2]
    assert "200 in all, about 3 min;" in told(PLAN, replace(INSPECTION, not_paused="x", start_seconds=20.0))[2]


def test_a_resumed_search_expects_the_time_of_its_rest() -> None:
    assert "200 in all, about 60 s for the rest;" in told(PLAN, steps_spent=100)[2]
    assert "200 in all; results" in told(PLAN, steps_spent=200)[2]


def test_a_search_that_is_stopped_tells_what_it_has_found_and_where() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream))
    reporter.search_started(PLAN, INSPECTION, [], 0)
    reporter.search_interrupted(answer_of(stored([record(0, 0.8)])), 60)
    reporter.search_interrupted(answer_of(stored([record(0, None)], None)), 60)

    found, nothing = stream.getvalue().splitlines()[3:]
    assert found.startswith("stopped after 1.2 of 4 trainings: best val_loss 0.8 with adamw(")
    assert found.endswith(" (trial 0); the study is in out")
    assert nothing == "stopped after 1.2 of 4 trainings: no trial has a final value yet; the study is in out"


def test_reasons_are_told_where_they_are_asked_for() -> None:
    config = replace(PLAN, space_notes=("The module is small.",))

    assert [line.endswith("(space adamw; --verbose says why)") for line in told(config)] == [False, True, False]
    assert told(config, verbose=True)[1:] == [told(PLAN)[1], told(PLAN)[2], "  The module is small."]


def test_what_a_space_warnings_of_an_earlier_search_is_told_in_any_case_and_once() -> None:
    config = replace(PLAN, space_notes=("The module is small.", "1 became 2."), space_warnings=("1 became 2.",))

    assert told(config)[3:] == ["  1 became 2."]
    assert told(config, verbose=True)[3:] == ["  The module is small.", "  1 became 2."]


def test_what_a_training_leaves_out_is_told_in_any_case() -> None:
    assert told(PLAN, replace(INSPECTION, notes=("left out",), not_paused="no pauses"))[3:] == [
        "  warning: no pauses",
        "  left out",
    ]


def test_each_training_gets_one_line_however_narrow_the_terminal() -> None:
    assert lines(completed(0.75), completed(0.875), completed(0.5))[3:] == [
        "[1.0 of 4 trainings] trial 0  val_loss 0.75 (best so far)  sgd(lr=0.1), constant()",
        "[2.0 of 4 trainings] trial 1  val_loss 0.875  sgd(lr=0.1), constant()",
        "[3.0 of 4 trainings] trial 2  val_loss 0.5 (best so far)  sgd(lr=0.1), constant()",
    ]


def test_an_error_of_several_lines_stays_on_one() -> None:
    assert "failed: RuntimeError: two lines" in lines(ended(StopReason.FAILED, "RuntimeError: two\nlines"))[3]


def test_the_baseline_is_no_best() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream))
    reporter.search_started(PLAN, INSPECTION, [], 0)
    reporter.training_started(BASELINE)
    reporter.training_ended(BASELINE, completed(0.1), 50)
    reporter.training_started(trial(0))
    reporter.training_ended(trial(0), completed(0.5), 100)

    assert stream.getvalue().splitlines()[3:] == [
        "[1.0 of 4 trainings] baseline  val_loss 0.1  SGD(lr=0.0001)",
        "[2.0 of 4 trainings] trial 0  val_loss 0.5 (best so far)  sgd(lr=0.1), constant()",
    ]


def test_a_replicate_is_named_by_its_trial_and_is_no_best() -> None:
    job = TrainingJob(RECIPE, 1, Role.REPLICATE, trial=3)
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream, width=200))
    reporter.search_started(PLAN, INSPECTION, [], 0)
    reporter.training_ended(TrialRecord(0, "running", RECIPE, None, None, auxiliary=job), completed(0.1), 100)

    assert "trial 3 on a second seed  val_loss 0.1  sgd" in stream.getvalue()


def test_a_resumed_search_says_how_far_it_is() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream))
    reporter.search_started(PLAN, INSPECTION, [TrialRecord(0, "complete", RECIPE, completed(0.25), 50)], 50)
    reporter.training_started(trial(1))
    reporter.training_ended(trial(1), completed(0.5), 100)

    assert (
        "resuming Net-adamw: 1 trial, 1.0 of 4 trainings so far, in the space that was chosen for it"
        in stream.getvalue()
    )
    assert "best so far" not in stream.getvalue()


def test_a_reason_that_a_message_begins_with_is_not_said_twice() -> None:
    assert lines(ended(StopReason.INTERRUPTED, "interrupted at step 5"))[3].startswith(
        "[1.0 of 4 trainings] trial 0  interrupted at step 5  sgd("
    )
    assert "trial 0  failed: no weights" in lines(ended(StopReason.FAILED, "no weights"))[3]


def test_a_paused_trial_is_shown_with_its_share_and_is_no_best() -> None:
    paused = Outcome(StopReason.PAUSED, 0.25, 5, 50, 1.0)

    assert lines(paused, completed(0.5))[3:] == [
        "[1.0 of 4 trainings] trial 0  val_loss 0.25 at 10%  sgd(lr=0.1), constant()",
        "[2.0 of 4 trainings] trial 1  val_loss 0.5 (best so far)  sgd(lr=0.1), constant()",
    ]


def test_no_progress_is_silence_and_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with make_reporter(False) as silent, make_reporter(True) as plain:
        assert type(silent) is ProgressReporter
        assert type(plain) is PlainReporter


def read_terminal(command: list[str], folder: Path) -> str:
    """Run a command on a separate terminal and return all that it shows."""
    ours, theirs = pty.openpty()
    env = command_env(COLUMNS="110", LINES="30", TERM="xterm-256color")
    with WarmProcess(command, folder, env, terminal=theirs) as process:
        os.close(theirs)
        shown = b""
        end = time.monotonic() + 300
        while True:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
            if time.monotonic() > end:
                process.kill()  # else it would wait for ever to be read
                break
        assert process.wait() == 0, shown.decode()
    os.close(ours)
    return shown.decode()


NOISY = """
import logging, sys
from tests.support.search_models import Slow as Quiet

log = logging.getLogger("noisy")
log.addHandler(logging.StreamHandler())  # before the display begins: it keeps this stream

class Slow(Quiet):
    def on_fit_start(self):
        for share in range(3):
            sys.stderr.write(f"\\rLoading weights {share}")
        sys.stderr.write("\\n")
        log.warning("a word of the module")
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "inline"])
def test_a_terminal_shows_one_table_whatever_the_users_code_writes(engine: str, tmp_path: Path) -> None:
    make_database(tmp_path)
    (tmp_path / "noisy.py").write_text(NOISY)
    search = ["search", "noisy.py:Slow", f"{MODULES}:loaders", "--max-steps", "40", "--budget", "5"]
    diverging_first = WILD.replace("prior: 1e-3", "prior: 1e3")
    space = str(write_space(tmp_path, diverging_first))
    shown = read_terminal(
        ["-m", "opttune", *search, "--space", space, "--no-report", "--engine", engine, "--verbose"], tmp_path
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    live = plain.partition("plan: 5 trainings of 40 steps")[2].replace("\r", "\n")

    # erased before the first lines
    assert shown.lstrip().startswith("opttune: loading torch, lightning and the module ...\r\x1b[2K")
    assert re.search(r"budget .*[1-4]\.\d of 5 trainings", live)
    assert re.search(r"rank +┃ trial +┃ optimizer +┃ lr +┃ at +┃ val_loss +┃ state", live)
    assert re.search(r"│ +│ \d+ +│ sgd +│ 0\.001 +│ +\d+% │ +[\d.]* +│ training, loss \d", live)
    assert re.search(r"│ 1 +│ \d+ +│ sgd .*│ 100% │ \d\.\d+ +│ finished", live)
    assert "diverged" in live
    assert re.search(r"^a word of the module *$", live, flags=re.MULTILINE)
    assert "Loading weights" not in live
    assert re.search(r"^\[[\d.]+ of 5 trainings\] trial \d  val_loss", live, flags=re.MULTILINE)
    assert "Traceback" not in plain
