import optuna
import pytest
from optuna.trial import TrialState, create_trial

from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.storages.records import (
    JOB,
    OUTCOME,
    RECIPE,
    STEPS_SPENT,
    auxiliary_study_name,
    differences,
    optuna_state,
    penalty_value,
    read_trial,
    search_names,
)
from opttune.trial_record import TrialRecord

RECIPE_1 = Recipe(Part("adamw", {"lr": 1e-3, "betas": (0.9, 0.99)}))
DONE = Outcome(StopReason.COMPLETED, 0.5, 100, 100, 1.0)


def diverged(steps: int) -> Outcome:
    return Outcome(StopReason.BLOW_UP, None, steps, 100, 1.0, "it rose")


def test_a_trial_is_read_back_from_its_study() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.set_user_attr(RECIPE, RECIPE_1.to_dict())
    trial.set_user_attr(OUTCOME, DONE.to_dict())
    trial.set_user_attr(STEPS_SPENT, 300)
    study.tell(trial, 0.5)

    assert read_trial(study.trials[0]) == TrialRecord(0, "complete", RECIPE_1, DONE, 300)


def test_a_trial_of_which_nothing_is_known_yet_has_a_row() -> None:
    study = optuna.create_study()
    study.ask()
    row = read_trial(study.trials[0]).row()

    assert row == {
        "number": 0, "state": "running", "reason": "", "value": None, "steps": 0, "steps_spent": None, "rung": None,
        "seconds_spent": None, "step_seconds": None,
    }  # fmt: skip


def test_a_row_holds_the_outcome_and_each_field_of_the_recipe() -> None:
    row = TrialRecord(2, "complete", RECIPE_1, DONE, 300).row()

    assert list(row)[:7] == ["number", "state", "reason", "value", "steps", "steps_spent", "rung"]
    assert (row["reason"], row["value"], row["steps"], row["rung"]) == ("completed", 0.5, 100, 1.0)
    assert (row["optimizer"], row["lr"], row["beta2"]) == ("adamw", 1e-3, 0.99)


@pytest.mark.parametrize("reason", [StopReason.PAUSED, StopReason.OUTRANKED])
def test_the_metric_at_a_rung_is_no_value_of_the_trial(reason: StopReason) -> None:
    record = TrialRecord(2, "running", RECIPE_1, Outcome(reason, 0.5, 10, 100, 1.0), None)

    assert (record.value, record.steps, record.row()["value"]) == (None, 10, None)


def test_a_paused_trial_is_at_its_last_rung_and_one_that_was_not_promoted_as_well() -> None:
    pauses = tuple(Outcome(StopReason.PAUSED, 0.5, step, 100, 1.0) for step in (10, 35))
    waiting = TrialRecord(2, "waiting", RECIPE_1, None, None, pauses)
    not_promoted = TrialRecord(2, "pruned", RECIPE_1, Outcome(StopReason.OUTRANKED, 0.5, 35, 100, 1.0), 99, pauses)

    assert (waiting.is_paused, waiting.rung, waiting.steps, waiting.row()["reason"]) == (True, 0.35, 35, "paused")
    assert (not_promoted.is_paused, not_promoted.rung, not_promoted.row()["reason"]) == (False, 0.35, "outranked")


def test_what_a_stopped_trial_had_done_counts_though_it_was_not_promoted_later() -> None:
    not_promoted = Outcome(StopReason.OUTRANKED, 0.5, 10, 100, 1.0)
    record = TrialRecord(2, "pruned", RECIPE_1, not_promoted, None, stopped_at=22)

    assert (record.steps, record.steps_done) == (10, 22)


def test_a_trial_that_failed_on_its_way_reached_the_rung_before() -> None:
    failed = Outcome(StopReason.FAILED, None, 20, 100, 1.0, "no")
    record = TrialRecord(2, "fail", RECIPE_1, failed, 20, (Outcome(StopReason.PAUSED, 0.5, 10, 100, 1.0),))

    assert (record.rung, record.steps, record.value) == (0.1, 20, None)


@pytest.mark.parametrize("reason", StopReason)
def test_every_reason_is_told_to_optuna(reason: StopReason) -> None:
    outcome = Outcome(reason, 0.5 if reason.has_value else None, 10, 100, 1.0)
    expected = TrialState.COMPLETE if reason.counts else TrialState.PRUNED

    assert optuna_state(outcome) is (TrialState.FAIL if reason is StopReason.FAILED else expected)


def test_a_bad_value_is_worse_the_earlier_the_run_died() -> None:
    assert penalty_value(diverged(5), "min") > penalty_value(diverged(20), "min") > 1e9
    assert penalty_value(diverged(5), "max") < penalty_value(diverged(20), "max") < -1e9


@pytest.mark.parametrize("worst", [3.0, 5e12, -5e12])
def test_a_bad_value_is_worse_than_every_real_one(worst: float) -> None:
    assert penalty_value(diverged(100), "min", [0.1, worst]) > max(0.1, worst)
    assert penalty_value(diverged(100), "max", [0.1, worst]) < min(0.1, worst)


def test_differences_are_named_to_the_last_key() -> None:
    stored = {"seed": 0, "space": {"sgd": {"lr": {"low": 1, "high": 2}}}}
    asked = {"seed": 1, "space": {"sgd": {"lr": {"low": 1, "high": 3}}}}

    assert differences(stored, asked) == [
        "seed: 0 in the study, 1 asked for",
        "space.sgd.lr.high: 2 in the study, 3 asked for",
    ]


def test_what_is_the_same_differs_in_nothing() -> None:
    assert differences({"a": [1, 2.0]}, {"a": [1.0, 2]}) == []


def test_a_key_that_is_missing_is_a_difference() -> None:
    assert differences({}, {"mode": "min"}) == ['mode: null in the study, "min" asked for']
    assert differences({}, {"budget_unit": "time"}) == ['budget_unit: "steps" in the study, "time" asked for']
    assert differences({}, {"budget_unit": "steps"}) == []


def test_an_auxiliary_run_is_read_back_with_its_job_and_its_recipe() -> None:
    job = TrainingJob(RECIPE_1, 5, Role.CONFIRMATION, label="adamw 1e-3")
    study = optuna.create_study()
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={JOB: job.to_dict()}))
    record = read_trial(study.trials[0])

    assert record == TrialRecord(0, "waiting", RECIPE_1, None, None, auxiliary=job)
    assert record.auxiliary is not None
    assert record.auxiliary.label == "adamw 1e-3"
    assert (record.role, record.name, record.job(seed=0)) == (Role.CONFIRMATION, "confirmation_0", job)


def test_the_studies_that_hold_auxiliary_runs_are_no_searches() -> None:
    assert search_names(["one", auxiliary_study_name("one", "0123456789abcdef"), "two"]) == ["one", "two"]
    # a study that was deleted and made anew has none of the former's runs
    assert auxiliary_study_name("one", "0" * 32) != auxiliary_study_name("one", "1" * 32)
