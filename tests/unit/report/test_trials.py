from opttune.outcome import StopReason
from opttune.report.trials import how_it_ended, optimizer_colours, trial_label
from tests.support.records import RECORDS, full_study, make_trial, record


def test_each_optimizer_that_was_tried_has_its_own_colour_in_the_order_of_the_space() -> None:
    colours = optimizer_colours(full_study())

    assert list(colours) == ["adamw", "muon"]
    assert len(set(colours.values())) == 2


def test_a_point_says_its_trial_and_its_recipe() -> None:
    assert trial_label(RECORDS[1]) == "#1 muon(lr=0.02), cosine()"


def test_how_a_trial_ended_is_one_of_five_words() -> None:
    assert [how_it_ended(one) for one in RECORDS] == ["finished", "finished", "diverged", "finished", "failed"]
    assert how_it_ended(record(0, None, reason=StopReason.PRUNED)) == "left behind"
    assert how_it_ended(make_trial(0, state="running")) == "waits"
