"""What a person sees: plain lines in a pipe, a live display on a terminal."""

import io
import os
import pty
import re
import select
import time
from pathlib import Path

import pytest
from rich.console import Console

from opttune.guard.steps import StepRecord
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.runtime.display import LiveReporter, PlainReporter, make_reporter
from opttune.runtime.progress import ProgressReporter
from opttune.space.auto import ModelFacts
from opttune.space.parse import load_space
from opttune.study.config import SearchConfig
from opttune.training.inspection import ModelInspection
from opttune.trial_record import TrialRecord
from tests.support.searches import MODULES, WILD, command_env, make_database, write_space
from tests.support.warm import WarmProcess

PLAN = SearchConfig(load_space("adamw"), "val_loss", "min", {"max_steps": 50}, "Net-adamw", Path("out"), budget=4)
INSPECTION = ModelInspection("Net", 12345, 50, "SGD(lr=0.0001)", True, ModelFacts(parameters=12345))
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


def test_the_first_line_says_what_is_searched_and_replaced() -> None:
    assert lines() == [
        "opttune: Net (12,345 parameters), replacing SGD(lr=0.0001); val_loss (min), space adamw, "
        "4 trainings of 50 steps"
    ]


def test_each_training_gets_one_line_however_narrow_the_terminal() -> None:
    assert lines(completed(0.75), completed(0.875), completed(0.5))[1:] == [
        "[1.0 of 4 trainings] trial 0  val_loss 0.75 (best so far)  sgd(lr=0.1), constant()",
        "[2.0 of 4 trainings] trial 1  val_loss 0.875  sgd(lr=0.1), constant()",
        "[3.0 of 4 trainings] trial 2  val_loss 0.5 (best so far)  sgd(lr=0.1), constant()",
    ]


def test_an_error_of_several_lines_stays_on_one() -> None:
    assert "failed: RuntimeError: two lines" in lines(ended(StopReason.FAILED, "RuntimeError: two\nlines"))[1]


def test_the_baseline_is_no_best() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream))
    reporter.search_started(PLAN, INSPECTION, [], 0)
    reporter.training_started(BASELINE)
    reporter.training_ended(BASELINE, completed(0.1), 50)
    reporter.training_started(trial(0))
    reporter.training_ended(trial(0), completed(0.5), 100)

    assert stream.getvalue().splitlines()[1:] == [
        "[1.0 of 4 trainings] baseline  val_loss 0.1  SGD(lr=0.0001)",
        "[2.0 of 4 trainings] trial 0  val_loss 0.5 (best so far)  sgd(lr=0.1), constant()",
    ]


def test_a_replicate_is_named_by_its_trial_and_is_no_best() -> None:
    job = TrainingJob(RECIPE, 1, Role.REPLICATE, trial=3)
    stream = io.StringIO()
    reporter = LiveReporter(Console(file=stream, width=200))
    reporter.search_started(PLAN, INSPECTION, [], 0)
    record = TrialRecord(0, "running", RECIPE, None, None, auxiliary=job)
    reporter.training_started(record)
    under_way = render(reporter)
    reporter.training_ended(record, ended(StopReason.BLOW_UP), 50)
    reporter.training_ended(record, completed(0.1), 100)

    assert "#3 sgd 0.1" in under_way
    assert "trial 3 on a second seed  val_loss 0.1  sgd" in stream.getvalue()
    # trials are counted, and the best is one of them
    assert "best none yet   pruned 0   diverged 0\n" in render(reporter)


def test_trainings_of_one_number_and_different_roles_have_a_bar_each() -> None:
    reporter = LiveReporter(Console(file=io.StringIO()))
    show(reporter)
    reporter.training_started(trial(0))
    reporter.training_started(BASELINE)
    reporter.training_ended(trial(0), completed(0.5), 50)

    assert "baseline" in render(reporter)
    assert "#0 sgd" not in render(reporter)


def test_a_resumed_search_says_how_far_it_is() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream))
    reporter.search_started(PLAN, INSPECTION, [TrialRecord(0, "complete", RECIPE, completed(0.25), 50)], 50)
    reporter.training_started(trial(1))
    reporter.training_ended(trial(1), completed(0.5), 100)

    assert "resuming Net-adamw: 1 trials, 1.0 of 4 trainings so far" in stream.getvalue()
    assert "best so far" not in stream.getvalue()


def render(reporter: LiveReporter) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120).print(reporter)
    return stream.getvalue()


def test_the_live_display_counts_what_was_pruned_diverged_and_failed_apart() -> None:
    reporter = LiveReporter(Console(file=io.StringIO()))
    outcomes = [ended(reason) for reason in (StopReason.BLOW_UP, StopReason.NON_FINITE, StopReason.PRUNED)]
    show(reporter, *outcomes, completed(0.5))

    assert "best 0.5   pruned 1   diverged 2\n" in render(reporter)
    reporter.training_ended(trial(4), ended(StopReason.FAILED), 250)
    reporter.training_ended(trial(5), ended(StopReason.INTERRUPTED), 255)
    assert "best 0.5   pruned 1   diverged 2   failed 1\n" in render(reporter)


def test_the_live_display_shows_budget_and_the_current_trial_with_its_loss() -> None:
    reporter = LiveReporter(Console(file=io.StringIO()))
    show(reporter, completed(0.5))
    reporter.training_started(trial(1))
    reporter.steps(trial(1), [StepRecord(6, 1.5, 0.1, 1.0), StepRecord(7, 1.25, 0.1, 1.0)])
    shown = render(reporter)

    assert re.search(r"budget .*1\.0 of 4 trainings", shown)
    assert re.search(r"#1 sgd 0\.1 .*step 7  loss 1\.25", shown)


def test_a_paused_trial_is_shown_with_its_share_and_is_no_best() -> None:
    paused = Outcome(StopReason.PAUSED, 0.25, 5, 50, 1.0)

    assert lines(paused, completed(0.5))[1:] == [
        "[1.0 of 4 trainings] trial 0  val_loss 0.25 at 10%  sgd(lr=0.1), constant()",
        "[2.0 of 4 trainings] trial 1  val_loss 0.5 (best so far)  sgd(lr=0.1), constant()",
    ]


def test_a_paused_trial_is_counted_as_pruned_once_others_outrank_it() -> None:
    reporter = LiveReporter(Console(file=io.StringIO()))
    show(reporter, Outcome(StopReason.PAUSED, 0.25, 5, 50, 1.0))
    waiting = render(reporter)
    reporter.trial_discarded(0)

    assert "best none yet   pruned 0   diverged 0\n" in waiting
    assert "best none yet   pruned 1   diverged 0\n" in render(reporter)


def test_a_training_without_a_loss_is_shown_too() -> None:
    reporter = LiveReporter(Console(file=io.StringIO()))
    show(reporter)
    reporter.training_started(BASELINE)
    reporter.steps(BASELINE, [StepRecord(3, None, 0.1, None)])

    assert re.search(r"baseline .*step 3", render(reporter))


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
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
        assert process.wait() == 0, shown.decode()
    os.close(ours)
    return shown.decode()


@pytest.mark.slow
def test_a_terminal_shows_budget_best_current_trial_with_loss_and_the_counts(tmp_path: Path) -> None:
    make_database(tmp_path)
    search = ["search", f"{MODULES}:Slow", f"{MODULES}:loaders", "--max-steps", "40", "--budget", "8"]
    shown = read_terminal(
        ["-m", "opttune", *search, "--space", str(write_space(tmp_path, WILD)), "--no-report"], tmp_path
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)

    assert "\x1b[" in shown
    assert re.search(r"budget .*[1-7]\.\d of 8 trainings", plain)
    assert re.search(r"#\d+ sgd 0\.001 .*step \d+  loss \d", plain)
    assert re.search(r"best \d\.\d+ +pruned 0 +diverged [1-9]", plain)
    assert "Traceback" not in plain
