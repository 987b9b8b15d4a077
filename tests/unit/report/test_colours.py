from opttune.report.colours import optimizer_colours, shown_recipe
from tests.support.records import RECORDS, full_study


def test_each_optimizer_that_was_tried_has_a_colour_of_its_own_in_the_order_of_the_space() -> None:
    colours = optimizer_colours(full_study())

    assert list(colours) == ["adamw", "muon"]
    assert len(set(colours.values())) == 2


def test_a_point_says_its_trial_and_its_recipe() -> None:
    assert shown_recipe(RECORDS[1]) == "#1 muon(lr=0.02), cosine()"
