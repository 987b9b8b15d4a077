"""The table that a terminal shows while a search runs."""

import io
import re

from rich.console import Console

from opttune.guard.steps import StepRecord
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.runtime.live_table import LiveTable
from opttune.trial_record import TrialRecord

RECIPE = Recipe(Part("sgd", {"lr": 0.1}))
BASELINE = TrialRecord(0, "running", None, None, None, auxiliary=TrainingJob(None, 0, Role.BASELINE))


def trial(number: int, pauses: tuple[Outcome, ...] = ()) -> TrialRecord:
    return TrialRecord(number, "running", RECIPE, None, None, pauses)


def ended(reason: StopReason, value: float | None = None, steps: int = 5) -> Outcome:
    return Outcome(reason, value, steps, 50, 1.0, "" if value is not None else "why")


def completed(value: float) -> Outcome:
    return ended(StopReason.COMPLETED, value, 50)


def make(*outcomes: Outcome, mode: str = "min") -> LiveTable:
    table = LiveTable("val_loss", "min" if mode == "min" else "max", 50, 4, "SGD(lr=0.0001)")
    for number, outcome in enumerate(outcomes):
        table.start(trial(number))
        table.end(trial(number), outcome)
    return table


def render(table: LiveTable, height: int = 40) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120, height=height).print(table)
    return stream.getvalue()


def rows(table: LiveTable, height: int = 40) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in render(table, height).splitlines() if "│" in line
    ]


def test_trials_are_in_the_order_of_their_values_and_those_that_ended_early_below() -> None:
    paused, diverged = ended(StopReason.PAUSED, 0.25), ended(StopReason.BLOW_UP, steps=3)
    table = make(completed(0.75), diverged, paused, completed(0.5))

    assert rows(table) == [
        ["1", "3", "sgd", "0.1", "100%", "0.5", "finished"],
        ["2", "0", "sgd", "0.1", "100%", "0.75", "finished"],
        ["", "2", "sgd", "0.1", "10%", "0.25", "paused"],
        ["", "1", "sgd", "0.1", "6%", "", "diverged"],
    ]
    assert "4 trials: 2 finished, 1 paused, 1 diverged" in render(table)


def test_the_highest_value_is_first_where_higher_is_better() -> None:
    assert [row[1] for row in rows(make(completed(0.5), completed(0.75), mode="max"))] == ["1", "0"]


def test_a_training_shows_its_step_its_loss_and_its_latest_validation() -> None:
    table = make()
    table.start(trial(1))
    table.step(trial(1), StepRecord(10, 1.25, 0.1, 1.0))
    table.measure(trial(1), {"val_loss": 0.875, "other": 1.0})

    assert rows(table) == [["", "1", "sgd", "0.1", "20%", "0.875", "training, loss 1.25"]]
    table.step(trial(1), StepRecord(11, None, 0.1, None))
    assert rows(table)[0][-1] == "training"


def test_the_share_is_that_of_a_recipes_own_length_where_equal_time_is_compared() -> None:
    table = LiveTable("val_loss", "min", 50, 4, "SGD(lr=0.0001)", lambda recipe: 25)
    table.start(trial(1))
    table.step(trial(1), StepRecord(10, 1.25, 0.1, 1.0))

    assert rows(table)[0][4] == "40%"


def test_a_resumed_trial_begins_at_its_rung() -> None:
    table = make()
    table.start(trial(1, (ended(StopReason.PAUSED, 0.25),)))

    assert rows(table) == [["", "1", "sgd", "0.1", "10%", "0.25", "training"]]


def test_the_baseline_beside_the_trials_has_a_value_and_no_rank() -> None:
    table = make(completed(0.5))
    table.start(BASELINE)
    assert rows(table)[-1] == ["", "baseline", "SGD(lr=0.0001)", "", "0%", "", "training"]
    table.end(BASELINE, completed(0.25))

    assert [row[:2] for row in rows(table)] == [["", "baseline"], ["1", "0"]]
    assert "1 trials: 1 finished" in render(table)


def test_a_replicate_is_named_by_its_trial_while_it_is_trained() -> None:
    job = TrainingJob(RECIPE, 1, Role.REPLICATE, trial=3)
    record = TrialRecord(0, "running", RECIPE, None, None, auxiliary=job)
    table = make(completed(0.5))
    table.start(record)
    assert rows(table)[-1][1] == "3, second seed"
    table.end(record, completed(0.1))

    assert [row[1] for row in rows(table)] == ["0"]


def test_a_paused_trial_that_is_given_up_is_not_promoted() -> None:
    table = make(ended(StopReason.PAUSED, 0.25))
    table.discard(0)

    assert rows(table)[0][-2:] == ["0.25", "not promoted"]


def test_a_resumed_search_shows_the_trials_so_far_and_what_they_cost() -> None:
    table = make()
    table.begin([TrialRecord(0, "complete", RECIPE, completed(0.25), 50)], 50)

    assert rows(table) == [["1", "0", "sgd", "0.1", "100%", "0.25", "finished"]]
    assert re.search(r"budget .*1\.0 of 4 trainings", render(table))


def test_what_is_left_is_told_once_something_was_trained() -> None:
    table = make()
    table.begin([], 50)
    assert "left" not in render(table)
    table.spend(100)
    assert re.search(r"2\.0 of 4 trainings, about \d+ \w+ left", render(table))
    table.spend(200)
    assert "left" not in render(table)


def test_a_low_terminal_shows_what_is_trained_and_the_best() -> None:
    table = make(*(completed(number / 100) for number in range(30)))
    table.start(trial(30))

    assert [row[1] for row in rows(table, height=10)] == ["0", "1", "30"]
    assert len(rows(table, height=100)) == 12
