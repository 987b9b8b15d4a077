from dataclasses import replace

from opttune.outcome import Outcome, StopReason
from opttune.space.parse import parse_space
from opttune.study.answer import answer_of
from opttune.study.step_costs import StepCosts
from opttune.trial_record import TrialRecord
from tests.support.records import make_pause, make_trial, record, stored


def test_an_answer_is_the_best_trial_beside_the_baseline() -> None:
    answer = answer_of(stored([record(0, 0.8), record(1, 0.4)]))

    assert (answer.value, answer.baseline_value) == (0.4, 2.5)
    assert (answer.result, answer.trial) == ("val_loss 0.4", "trial 1")
    assert answer.baseline_words == "2.5 with SGD(lr=0.0001)"
    assert answer.recipe_yaml.startswith("optimizer: {name: adamw, lr: 0.002")


def test_it_says_how_to_train_with_the_recipe_at_the_length_that_was_searched() -> None:
    answer = answer_of(stored([record(0, 0.8, schedule="plateau")], length={"max_epochs": 3}))

    assert answer.trainer_call("best.yaml") == (
        "Trainer(max_epochs=3, callbacks=[opttune.RecipeCallback('best.yaml', monitor='val_loss', mode='min')])"
    )
    assert "RecipeCallback('out/best_recipe.yaml'" in answer.trainer_call()


def test_the_next_steps_train_with_the_recipe_and_test_it_on_new_seeds() -> None:
    answer = answer_of(stored([record(0, 0.8)]))

    assert answer.next_steps("confirm it") == [
        f"train with it    {answer.trainer_call()}",
        "more than luck?  confirm it",
    ]
    # the baseline is no find to confirm
    assert answer_of(stored([record(0, 3.0)])).next_steps("confirm it") == []
    assert answer_of(stored([record(0, None)], None)).next_steps("confirm it") == []


def test_the_call_has_the_arguments_of_the_searchs_trainer_and_the_names_of_those_that_are_not_stored() -> None:
    kept = {"trainer": {"gradient_clip_val": 0.5}, "origin": {"left_out": ("callbacks", "logger")}}
    (call, _) = answer_of(stored([record(0, 0.8)], **kept)).next_steps("")

    assert "Trainer(max_steps=100, gradient_clip_val=0.5, logger=logger, callbacks=[*callbacks, opttune." in call


def test_the_edges_of_the_space_and_divergences_are_told() -> None:
    answer = answer_of(stored([record(0, 0.2, lr=0.099), record(1, lr=0.1)]))

    assert answer.warnings[0].startswith("the best lr 0.099 lies at the upper edge")
    assert answer.stability[0].startswith("adamw: 1 of 2 trials diverged")


def test_a_baseline_that_no_recipe_beats_is_a_warning() -> None:
    (warning,) = answer_of(stored([record(0, 3.0)])).warnings
    assert warning.startswith("no recipe beats the baseline (val_loss 2.5 with ")

    diverged = Outcome(StopReason.BLOW_UP, None, 7, 100, 1.0)
    answer = answer_of(stored([record(0, 3.0)], diverged))
    assert answer.baseline_words == "gave no value (blow_up) with SGD(lr=0.0001)"
    (warning,) = answer.warnings
    assert warning == (
        "SGD(lr=0.0001) gave no value, so it is unknown whether the recipe beats your own optimizer: blow_up"
    )


def test_of_equal_time_the_costs_measured_before_are_told_where_no_baseline_was_trained() -> None:
    done = [replace(one, outcome=replace(one.outcome, share=0.25)) for one in [record(0, 0.4, lr=0.01)] if one.outcome]
    told = {"budget_unit": "time", "with_baseline": False}
    costs = StepCosts.of({"baseline": 0.01, "adamw": 0.04})
    (warning,) = answer_of(stored(done, None, step_costs=costs, **told)).warnings
    assert warning.startswith("a step of trial 0 takes 4.0 x the baseline's")
    assert warning.endswith("trained for 25 of 100 steps, in about the baseline's time.")

    costs = StepCosts.of({"sgd": 0.01, "adamw": 0.04})
    (warning,) = answer_of(stored(done, None, step_costs=costs, **told)).warnings
    assert "4.0 x that of sgd" in warning
    assert warning.endswith("in about the same time.")
    assert answer_of(stored(done, None, with_baseline=False)).warnings == ()


def test_a_trial_that_the_search_has_left_interrupted_is_a_warning() -> None:
    done = [record(0, 0.8), record(1, 0.4)]
    interrupted = make_trial(2, recipe=done[0].recipe, lost_steps=7)
    (warning,) = answer_of(stored([*done, interrupted])).warnings
    assert warning.startswith("trial 2 was interrupted, and the search reached its limits before training it again")

    (warning,) = answer_of(stored([*done, interrupted, replace(interrupted, number=3)])).warnings
    assert warning.startswith("trials 2, 3 were interrupted")
    # a search that was interrupted says itself how it is resumed; one that another process runs is not over
    assert answer_of(replace(stored([*done, interrupted]), status="KILLED")).warnings == ()
    assert answer_of(stored([*done, interrupted, make_trial(3, state="running")])).warnings == ()


def test_an_optimizer_of_the_space_that_was_not_tried_is_told_at_the_end() -> None:
    two = parse_space("optimizer: {adamw: {lr: 1e-3}, lion: {lr: 1e-4}, own: {}}", "two")
    study = stored([record(0, 0.8)], space=two)
    (warning,) = answer_of(study).warnings
    assert warning.startswith("lion: not tried before the search reached its limits.")
    assert answer_of(replace(study, status="KILLED")).warnings == ()

    (warning,) = answer_of(stored([record(0, 0.8)], None, space=two, with_baseline=False)).warnings
    assert warning.startswith("lion, own: not tried")


def test_trials_with_the_same_value_are_told() -> None:
    records = [record(0, 0.8), record(1, 0.4), record(2, 0.4)]
    (warning,) = answer_of(stored(records)).warnings
    assert warning.startswith("trials 1, 2 have the same val_loss (0.4), and the first is the answer:")
    assert answer_of(stored(records[:2])).warnings == ()


def test_without_a_value_there_is_nothing_to_train_with() -> None:
    answer = answer_of(stored([record(0, None)], None))

    assert (answer.best, answer.recipe, answer.value, answer.baseline_value) == (None, None, None, None)
    assert (answer.result, answer.trial, answer.recipe_yaml, answer.trainer_call()) == ("", "", "", "")
    assert (answer.baseline_words, answer.warnings) == ("", ())
    assert answer.stability[0].startswith("adamw: 1 of 1 trials diverged")


def test_a_rung_at_which_the_metric_had_no_value_is_told() -> None:
    def trials(*first: float | None) -> list[TrialRecord]:
        return [
            replace(record(number, 0.8), pauses=(make_pause(value, 10), make_pause(0.9, 35)))
            for number, value in enumerate(first)
        ]

    told = [one for one in answer_of(stored(trials(None, None))).warnings if "no value" in one]
    assert len(told) == 1
    assert told[0].startswith("val_loss had no value in the validation at step 10 in any trial")
    assert not any("no value" in one for one in answer_of(stored(trials(None, 1.0))).warnings)


def test_what_pays_for_a_missing_baseline_follows_what_is_spent() -> None:
    def told(budget: float, trials: int) -> list[str]:
        study = stored([record(number, 0.8) for number in range(trials)], None, budget=budget)
        return [one for one in answer_of(study).warnings if "baseline" in one]

    assert told(1.5, 1) == [
        "a budget of 1.5 trainings does not pay for the baseline: it is unknown whether the recipe beats your own "
        "optimizer. Give 2 or more to train both."
    ]
    # of a larger budget, too little is left
    assert told(2.5, 2)[0].endswith("Give 3 or more to train both.")
    assert told(3.0, 2) == []
