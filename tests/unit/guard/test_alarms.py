from opttune import Guard
from opttune.guard.alarms import Alarms
from opttune.guard.steps import StepRecord


def said(losses, norms=None, guard=None):
    alarms = Alarms(guard or Guard())
    norms = norms or [None] * len(losses)
    sentences = [
        alarms.add(StepRecord(step, loss, 0.1, norm))
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), 1)
    ]
    return [sentence for sentence in sentences if sentence], alarms


def test_a_loss_above_twice_the_first_is_said_once_and_counted():
    told, alarms = said([2.0, 1.0, 4.1, 1.0, 5.0])
    assert told == ["the loss jumped to 4.1 at step 3, above 2 x the first, 2"]
    assert alarms.sentences == ("the loss jumped to 4.1 at step 3, above 2 x the first, 2 (2 times)",)


def test_near_or_below_zero_a_ratio_says_nothing():
    assert said([0.001, 5.0])[0] == []
    assert said([-1.0, 5.0])[0] == []


def test_steps_without_a_loss_are_passed_over():
    assert said([None, float("nan"), 2.0, 9.0])[0] == ["the loss jumped to 9 at step 4, above 2 x the first, 2"]


def test_a_norm_above_ten_times_the_usual_is_said():
    norms = [1.0] * 30 + [9.0] + [11.0] * 2
    told, alarms = said([1.0] * 33, norms)
    assert told == ["the gradients' norm jumped to 11 at step 32, above 10 x the usual 1"]
    assert alarms.sentences[0].endswith("(2 times)")


def test_the_first_norms_say_nothing_of_what_is_usual():
    assert said([1.0] * 10, [1.0] * 9 + [1e6])[0] == []


def test_where_alarms_are_off_nothing_is_said():
    assert said([2.0, 9.0], guard=Guard(alarms=False))[0] == []


def test_what_it_remembers_goes_on_in_another():
    _, alarms = said([2.0, 9.0, *[1.0] * 28], [1.0] * 30)
    other = Alarms(Guard())
    other.go_on_from(alarms.progress())
    assert other.progress() == alarms.progress()
    assert other.add(StepRecord(31, 9.0, 0.1, 1.0)) == ""
    assert other.sentences == ("the loss jumped to 9 at step 2, above 2 x the first, 2 (2 times)",)
